"""Which segmenter a call of :func:`sjg.tl.segment_image` means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sjg.core import InputError
from sjg.imaging import CellParameters, WatershedParameters, judge_stains, survey
from sjg.imaging._networks import NETWORKS, load_network
from sjg.imaging._segmenters import Application, Compartment, Function, Segmenter, Watershed
from sjg.imaging._watershed_cells import Stains

#: margin of methods that do not say how far they look, where no diameter is known
_HALO_PX = 128


@dataclass(frozen=True)
class MethodRequest:
    """The arguments of :func:`sjg.tl.segment_image` that choose a method."""

    method: Any
    weights: str | Path | None
    compartment: Compartment
    diameter_px: float | None
    halo_px: int | None
    pixel_size_um: float | None
    nuclei: WatershedParameters
    cells: CellParameters


def choose_segmenter(request: MethodRequest, planes: Sequence[Any], name: str) -> Segmenter:
    """The segmenter for an image of which `planes` are the channels, the nuclear one first; `name` is for messages.

    Raises
    ------
    DependencyError
        A network is not installed.
    InputError
        No such method or weights, or nothing like a nucleus in the image.
    """
    method, halo = request.method, request.halo_px
    if halo is None:
        halo = _HALO_PX if request.diameter_px is None else round(4 * request.diameter_px)
    if isinstance(method, str):
        if method == "watershed":
            return _watershed(request, planes, name)
        if method not in NETWORKS:
            raise InputError(
                f"method={method!r} is unknown; choose 'watershed', {', '.join(map(repr, NETWORKS))}, or pass a function image -> labels."
            )
        if method == "stardist" and request.compartment != "nucleus":
            raise InputError("method='stardist' segments nuclei; use compartment='nucleus', or another method for cells.")
        if method == "cellpose" and request.compartment == "both":
            raise InputError(
                "method='cellpose' segments one compartment at a time; call it for 'nucleus' and for 'cell' with the weights of each, then "
                "pair them with sjg.tl.match_nuclei."
            )
        method = load_network(method, request.weights, diameter_px=request.diameter_px)
    if hasattr(method, "predict"):
        return Application(method, request.compartment, halo, request.pixel_size_um)
    if callable(method):
        return Function(method, request.compartment, halo)
    raise InputError(f"method={method!r} is neither a name, nor a function image -> labels, nor an object with predict.")


def _watershed(request: MethodRequest, planes: Sequence[Any], name: str) -> Watershed:
    scene = survey(
        planes[0],
        diameter_px=request.diameter_px,
        work_diameter_px=request.nuclei.work_diameter_px,
        global_fraction=request.nuclei.global_fraction,
    )
    if scene is None:
        raise InputError(
            f"The nuclear channel of {name} is empty, constant or shows nothing like a nucleus; choose another with nucleus_channel=, or "
            "give the size of the nuclei (diameter_um= or diameter_px=)."
        )
    wants_cells = request.compartment != "nucleus" and len(planes) > 1
    stains = (
        judge_stains(planes[0], planes[1:], scene, nuclei_parameters=request.nuclei, parameters=request.cells)
        if wants_cells
        else Stains((), ())
    )
    return Watershed(scene, stains, request.compartment, request.nuclei, request.cells)


def describe_method(request: MethodRequest, segmenter: Segmenter) -> dict[str, Any]:
    """What the labels of a patch depend on, as plain types, to tell whether a checkpoint belongs to a run."""
    described: dict[str, Any] = {
        "method": request.method
        if isinstance(request.method, str)
        else getattr(request.method, "__qualname__", type(request.method).__name__),
        "weights": None if request.weights is None else str(request.weights),
        "compartment": request.compartment,
        "diameter_px": request.diameter_px,
        "halo_px": segmenter.halo_px,
        "pixel_size_um": request.pixel_size_um,
    }
    if isinstance(segmenter, Watershed):
        described |= {"nuclei": asdict(request.nuclei), "cells": asdict(request.cells), "scene": asdict(segmenter.scene)}
        described |= {"stains": asdict(segmenter.stains)}
    return described
