"""What turns windows of an image into labels: the watershed, any function, Mesmer-compatible applications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError
from sjg.imaging._scene import Scene
from sjg.imaging._watershed import WatershedParameters, nuclei_in_window
from sjg.imaging._watershed_cells import CellParameters, Stains, cells_in_window

Compartment = Literal["nucleus", "cell", "both"]
#: names of the outputs for each compartment; the first decides which patch answers for an object
OUTPUTS: dict[str, tuple[str, ...]] = {"nucleus": ("nuclei",), "cell": ("cells",), "both": ("nuclei", "cells")}


class Segmenter(Protocol):
    """Labels of windows.

    ``halo_px`` is the margin that a patch needs so that its own objects are whole; ``grain_px`` the multiple at which windows
    should start; ``joint`` tells that nuclei and cells of one window share their ids; ``bytes_per_px`` the memory that one pixel of a
    window takes while it is worked on.
    """

    @property
    def halo_px(self) -> int: ...
    @property
    def grain_px(self) -> int: ...
    @property
    def joint(self) -> bool: ...
    @property
    def bytes_per_px(self) -> int: ...

    def __call__(self, windows: Sequence[NDArray[Any]]) -> list[dict[str, NDArray[np.int32]]]:
        """(channel, y, x) windows, the nuclear channel first -> labels (y, x) by name."""
        ...


@dataclass(frozen=True)
class Watershed:
    """The built-in segmenter."""

    scene: Scene
    stains: Stains
    compartment: Compartment
    nuclei: WatershedParameters
    cells: CellParameters

    joint = True
    bytes_per_px = 120

    @property
    def halo_px(self) -> int:
        return self.scene.halo_px

    @property
    def grain_px(self) -> int:
        return self.scene.grain_px

    def __call__(self, windows: Sequence[NDArray[Any]]) -> list[dict[str, NDArray[np.int32]]]:
        return [self._one(window) for window in windows]

    def _one(self, window: NDArray[Any]) -> dict[str, NDArray[np.int32]]:
        nuclei = nuclei_in_window(window[0], self.scene, self.nuclei)
        if self.compartment == "nucleus":
            return {"nuclei": nuclei}
        cells = cells_in_window(nuclei, window[1:], self.scene, stains=self.stains, parameters=self.cells)
        return {"cells": cells} if self.compartment == "cell" else {"nuclei": nuclei, "cells": cells}


@dataclass(frozen=True)
class Function:
    """Any function of one window.

    It gets the nuclear channel (y, x), or all channels (1 + k, y, x) where there are membrane channels, and returns labels, for both
    compartments a pair (nuclei, cells) or a mapping with these names.
    """

    function: Callable[[NDArray[Any]], Any]
    compartment: Compartment
    halo_px: int
    bytes_per_px: int = 400

    grain_px = 1
    joint = False

    def __call__(self, windows: Sequence[NDArray[Any]]) -> list[dict[str, NDArray[np.int32]]]:
        return [named_labels(self.function(_planes(window)), window.shape[1:], self.compartment) for window in windows]


@dataclass(frozen=True)
class Application:
    """An object with Mesmer's ``predict(batch (N, y, x, 2), image_mpp=, compartment=) -> (N, y, x, 1 or 2)``.

    The second channel is the maximum over the membrane channels, zero where there are none. Windows of a batch are padded to one
    shape.
    """

    application: Any
    compartment: Compartment
    halo_px: int
    pixel_size_um: float | None
    bytes_per_px: int = 600

    grain_px = 1
    joint = False

    def __call__(self, windows: Sequence[NDArray[Any]]) -> list[dict[str, NDArray[np.int32]]]:
        height, width = (max(window.shape[axis] for window in windows) for axis in (1, 2))
        batch = np.zeros((len(windows), height, width, 2), dtype=np.float32)
        for index, window in enumerate(windows):
            batch[index, : window.shape[1], : window.shape[2], 0] = window[0]
            if len(window) > 1:
                batch[index, : window.shape[1], : window.shape[2], 1] = window[1:].max(axis=0)
        word = {"nucleus": "nuclear", "cell": "whole-cell", "both": "both"}[self.compartment]
        predicted = np.asarray(self.application.predict(batch, image_mpp=self.pixel_size_um, compartment=word))
        # Mesmer's order for both compartments: whole cell, nucleus
        order = {"nucleus": (0,), "cell": (0,), "both": (1, 0)}[self.compartment]
        if predicted.ndim != 4 or predicted.shape[:3] != batch.shape[:3] or predicted.shape[3] <= max(order):
            raise InputError(
                f"The application's predict returned an array of shape {predicted.shape} for a batch of shape {batch.shape}; it must return "
                f"labels (N, y, x, {len(order)})."
            )
        results = []
        for index, window in enumerate(windows):
            part = predicted[index, : window.shape[1], : window.shape[2]]
            results.append(named_labels([part[..., channel] for channel in order], window.shape[1:], self.compartment))
        return results


def _planes(window: NDArray[Any]) -> NDArray[Any]:
    return window[0] if len(window) == 1 else window


def named_labels(result: Any, shape: tuple[int, ...], compartment: Compartment) -> dict[str, NDArray[np.int32]]:
    """What a user's function returned, checked and by name, ids 1..n without gaps.

    Raises
    ------
    InputError
        Not labels of that shape, or not as many as there are compartments.
    """
    names = OUTPUTS[compartment]
    if hasattr(result, "keys"):
        missing = [name for name in names if name not in result]
        if missing:
            raise InputError(f"method returned {sorted(result)}; for compartment={compartment!r} it must return {list(names)}.")
        parts = [result[name] for name in names]
    elif len(names) == 1:
        single = isinstance(result, list | tuple) and len(result) == 1
        parts = [result[0] if single else result]
    else:
        parts = list(result) if isinstance(result, list | tuple) else list(np.asarray(result))
        if len(parts) != len(names):
            raise InputError(f"method returned {len(parts)} results; for compartment='both' it must return labels of nuclei and of cells.")
    return {name: _numbered(checked_labels(part, shape)) for name, part in zip(names, parts, strict=True)}


def checked_labels(result: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """What a user's function returned, as integer labels of `shape`.

    Raises
    ------
    InputError
        It is something else; the message says how to mend it.
    """
    labels = np.asarray(result)
    if labels.shape != shape:
        raise InputError(
            f"method returned an array of shape {labels.shape} for an image of shape {shape}; it must return labels (y, x) of the same shape "
            "(of a tuple of results return the labels only)."
        )
    if labels.dtype.kind == "b":
        raise InputError("method returned a mask of booleans; it must return labels, e.g. scipy.ndimage.label(mask)[0].")
    if labels.dtype.kind not in "iuf":
        raise InputError(f"method returned {labels.dtype} values; it must return integer labels.")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or (labels != np.rint(labels)).any():
            raise InputError("method returned labels that are not whole numbers; it must return integer labels, not e.g. probabilities.")
        labels = labels.astype(np.int64)
    if labels.size and labels.min() < 0:
        raise InputError(f"method returned negative labels (smallest {labels.min()}); 0 is the background and ids start at 1.")
    return labels


def _numbered(labels: NDArray[Any]) -> NDArray[np.int32]:
    ids, inverse = np.unique(labels, return_inverse=True)
    new = np.cumsum(ids != 0) * (ids != 0)
    return np.asarray(new[inverse].reshape(labels.shape), dtype=np.int32)
