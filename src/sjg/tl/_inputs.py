"""Choose, check and read what a run needs; everything cheap that can fail fails here, before any long work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sjg import access
from sjg._logging import logger
from sjg.core import CellTypes, Grid, InputError, Molecules, generator, values_at
from sjg.tl._missed import with_found_nuclei
from sjg.training import nucleus_or_ring

if TYPE_CHECKING:
    from spatialdata import SpatialData


@dataclass(frozen=True)
class Request:
    """The arguments of :func:`sjg.tl.segment` that choose data."""

    image_key: str | None
    points_key: str | None
    nuclei_key: str | None
    cell_type_key: str | None
    reference: Any
    resolution_um: float | None
    pixel_size_um: float | None
    coordinate_system: str
    feature_key: str | None
    channel: str | int | None
    min_qv: float | None
    control_pattern: str | None
    random_state: int
    features: Literal["transcripts", "channels"] = "transcripts"
    channels: tuple[str, ...] | None = None
    channel_values: access.ChannelValues = "auto"
    #: (m, 2) centres of nuclei that an earlier run has found
    found_yx_px: NDArray[np.int64] | None = None
    calibrate_reference: bool = True


@dataclass(frozen=True)
class RunArrays:
    """What a run reads from the object, before types.

    `channels` are there where they stand in place of transcripts, which are drawn from them; `trained` are the pixels of patch files that
    are not in a folder ``test``, None where that is all.
    """

    image_key: str
    points_key: str | None
    nuclei_key: str | None
    coordinate_system: str
    grid: Grid
    molecules: Molecules
    report: access.MoleculeReport | None
    nuclei: NDArray[np.int32]
    source_ids: NDArray[Any] | None
    reference: tuple[tuple[str, ...], NDArray[np.float64]] | None
    channels: access.ChannelImage | None = None
    channel_values: Literal["density", "intensity"] | None = None
    trained: NDArray[np.bool_] | None = None
    found_yx_px: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class RunInputs(RunArrays):
    """The arrays of a run and the start types of its nuclei."""

    types: CellTypes


def choose_features(sdata: SpatialData, asked: str, points_key: str | None) -> Literal["transcripts", "channels"]:
    """Transcripts wherever there are points, unless channels are asked for."""
    if asked not in ("auto", "transcripts", "channels"):
        raise InputError(f"features={asked!r}; choose 'auto', 'transcripts' or 'channels'.")
    if asked == "channels" and points_key is not None:
        raise InputError(f"features='channels' takes channels in place of points_key={points_key!r}; give one of the two.")
    if asked == "channels" or (asked == "auto" and points_key is None and len(sdata.points) == 0 and len(sdata.images) > 0):
        return "channels"
    return "transcripts"


def read_arrays(sdata: SpatialData, request: Request, *, shape: tuple[int, ...] | None = None) -> RunArrays:
    """Read image, transcripts, nuclei and reference into the working grid.

    Parameters
    ----------
    sdata
        The object.
    request
        What was asked for.
    shape
        Shape that the grid must have, where an earlier run is taken up.

    Raises
    ------
    InputError
        See :func:`sjg.tl.segment`.
    """
    if request.features == "channels":
        return _channel_arrays(sdata, request, shape=shape)
    image_key = access.choose_image(sdata, request.image_key)
    points_key = access.choose_points(sdata, request.points_key)
    nuclei_key = _choose_nuclei(sdata, request)
    keys = [key for key in (image_key, points_key, nuclei_key) if key is not None]
    frame = access.choose_coordinate_system(sdata, keys, request.coordinate_system)
    access.choose_feature_key(sdata, points_key, request.feature_key)
    access.choose_channel(sdata, image_key, request.channel)
    diameter = access.nucleus_diameter_px(sdata, nuclei_key, image_key, coordinate_system=frame)
    grid = access.working_grid(
        sdata,
        image_key,
        points_key,
        coordinate_system=frame,
        resolution_um=request.resolution_um,
        pixel_size_um=request.pixel_size_um,
        nucleus_diameter_px=diameter,
    )
    _check_shape(grid, shape, image_key)
    molecules, report = access.read_molecules(
        sdata,
        points_key,
        grid,
        coordinate_system=frame,
        feature_key=request.feature_key,
        min_qv=request.min_qv,
        control_pattern=request.control_pattern,
    )
    reference = _resolve_reference(sdata, request, molecules.gene_names)
    nuclei, source_ids = _read_nuclei(sdata, request, grid, image_key, nuclei_key, frame)
    arrays = RunArrays(image_key, points_key, nuclei_key, frame, grid, molecules, report, nuclei, source_ids, reference)
    return arrays if request.found_yx_px is None else with_found_nuclei(arrays, request.found_yx_px)


def _channel_arrays(sdata: SpatialData, request: Request, *, shape: tuple[int, ...] | None) -> RunArrays:
    """Read the channels of an image, nuclei and reference into the image's own pixel grid."""
    from sjg.training import sample_molecules

    image_key = access.choose_channel_image(sdata, request.image_key)
    nuclei_key = _choose_nuclei(sdata, request)
    frame = access.choose_coordinate_system(sdata, [key for key in (image_key, nuclei_key) if key is not None], request.coordinate_system)
    indices = access.choose_channels(sdata, image_key, request.channels, nuclear=request.channel, find_nuclei=nuclei_key is None)
    grid = access.working_grid(
        sdata,
        image_key,
        coordinate_system=frame,
        # channels lose nothing in the image's own pixels, whatever their size
        resolution_um=request.resolution_um or request.pixel_size_um,
        pixel_size_um=request.pixel_size_um,
    )
    _check_shape(grid, shape, image_key)
    nuclei, source_ids = _read_nuclei(sdata, request, grid, image_key, nuclei_key, frame)
    values = _channel_values(sdata, request, image_key)
    channels = access.read_channels(sdata, image_key, grid, indices, values=values, nuclei=nuclei, coordinate_system=frame)
    # the draw belongs to the data, not to the run: the same image gives the same molecules whatever the seed of the training
    molecules = sample_molecules(channels.densities(), generator(0, 7))
    reference = _resolve_reference(sdata, request, channels.names)
    return RunArrays(
        image_key,
        None,
        nuclei_key,
        frame,
        grid,
        molecules,
        None,
        nuclei,
        source_ids,
        reference,
        channels,
        values,
        _trained(sdata, image_key, grid.shape),
    )


def _channel_values(sdata: SpatialData, request: Request, image_key: str) -> Literal["density", "intensity"]:
    if request.channel_values != "auto":
        return request.channel_values
    from_patches = "sjg_patches" in sdata.attrs and image_key == "genes"
    return "density" if from_patches or request.reference is not None else "intensity"


def _trained(sdata: SpatialData, image_key: str, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Pixels of the patch files that the object was read from, but for those in a folder ``test``."""
    record = sdata.attrs.get("sjg_patches")
    if record is None or image_key != "genes":
        return None
    height, width = record["patch_shape_px"]
    mask = np.zeros(shape, bool)
    for file in record["files"]:
        if not file["name"].startswith("test/"):
            mask[file["row"] * height : (file["row"] + 1) * height, file["column"] * width : (file["column"] + 1) * width] = True
    return None if mask.all() or not mask.any() else mask


def _choose_nuclei(sdata: SpatialData, request: Request) -> str | None:
    nuclei_key = access.choose_nuclei(sdata, request.nuclei_key)
    if nuclei_key is None and request.cell_type_key is not None and request.reference is None:
        raise InputError(
            f"cell_type_key={request.cell_type_key!r} names a column of a table that annotates nuclei, but no nuclei were given; "
            "pass nuclei_key, or drop cell_type_key to find types by reference or clustering."
        )
    return nuclei_key


def _check_shape(grid: Grid, shape: tuple[int, ...] | None, image_key: str) -> None:
    if shape is not None and grid.shape != shape:
        raise InputError(f"images[{image_key!r}] gives a grid of {grid.shape} pixels, the run had {shape}; run sjg.tl.segment again.")


def read_inputs(sdata: SpatialData, request: Request) -> RunInputs:
    """Read the inputs of a run into the working grid and find the start types.

    Raises
    ------
    InputError
        See :func:`sjg.tl.segment`.
    """
    arrays = read_arrays(sdata, request)
    types = _initial_types(sdata, request, arrays)
    logger.info(
        "%s x %s pixels%s, %s nuclei, %s, %s types",
        *arrays.grid.shape,
        f" of {arrays.grid.pixel_size_um:g} um" if arrays.grid.pixel_size_um else "",
        int(arrays.nuclei.max()),
        _described(arrays),
        len(types.names),
    )
    return RunInputs(**vars(arrays), types=types)


def _described(arrays: RunArrays) -> str:
    if arrays.report is None:
        return f"{len(arrays.molecules.gene_names)} channels in place of genes"
    counts = arrays.report.counts()
    return (
        f"{counts['n_kept']} of {counts['n_total']} transcripts of {len(arrays.molecules.gene_names)} genes ({counts['n_low_quality']} low "
        f"quality, {counts['n_control']} controls, {counts['n_outside']} outside the image)"
    )


def _resolve_reference(
    sdata: SpatialData, request: Request, gene_names: tuple[str, ...]
) -> tuple[tuple[str, ...], NDArray[np.float64]] | None:
    if request.reference is None:
        return None
    from sjg.pp._reference import resolve_reference

    return resolve_reference(request.reference, sdata, gene_names, request.cell_type_key or "cell_type")


def _read_nuclei(
    sdata: SpatialData, request: Request, grid: Grid, image_key: str, nuclei_key: str | None, frame: str
) -> tuple[NDArray[np.int32], NDArray[Any] | None]:
    if nuclei_key is not None:
        return access.read_nuclei(sdata, nuclei_key, grid, coordinate_system=frame)
    from sjg.imaging._watershed import watershed_nuclei

    image = access.read_image(sdata, image_key, grid, channel=request.channel, coordinate_system=frame)
    labels, _ = access.number_from_one(watershed_nuclei(image, spread=access.starmap_in_order))
    if not labels.any():
        raise InputError(
            f"No nucleus was found in images[{image_key!r}]; check that the channel shows nuclei (channel=...), or bring nuclei "
            f"or cells as nuclei_key (labels: {sorted(sdata.labels) or 'none'}, shapes: {sorted(sdata.shapes) or 'none'})."
        )
    return labels, None


def _initial_types(sdata: SpatialData, request: Request, arrays: RunArrays) -> CellTypes:
    molecules, nuclei = arrays.molecules, arrays.nuclei
    n = int(nuclei.max())
    nucleus = values_at(nuclei, molecules.yx_px)
    if not nucleus.any():
        if arrays.channels is not None:
            raise InputError(f"images[{arrays.image_key!r}] is empty in all nuclei; choose others with channels= or nuclei_key=.")
        raise InputError(
            f"No transcript of points[{arrays.points_key!r}] lies in a nucleus; check that image, nuclei and transcripts "
            f"are aligned in the coordinate system {arrays.coordinate_system!r}."
        )
    if request.cell_type_key is not None and arrays.nuclei_key is not None and arrays.source_ids is not None:
        names, codes = access.read_nuclei_types(sdata, arrays.nuclei_key, request.cell_type_key, arrays.source_ids)
        return _given_types(names, codes, arrays.reference)
    shape, typed_by = (n, len(molecules.gene_names)), nucleus
    if arrays.channels is None:
        typed_by = nucleus_or_ring(nuclei, nucleus, molecules.yx_px, n_nuclei=n, always=arrays.reference is None)
    counts = access.count_matrix(typed_by, molecules.gene, shape)
    if arrays.reference is not None:
        from sjg.pp._typing import TypingParameters, type_nuclei

        names, profiles = arrays.reference
        parameters = TypingParameters() if request.calibrate_reference else TypingParameters(n_revisions=0)
        posterior = type_nuclei(counts, profiles, parameters=parameters)
        in_nuclei = np.asarray(access.count_matrix(nucleus, molecules.gene, shape).T @ posterior, np.float64).T
        return CellTypes(names, posterior.argmax(1).astype(np.int32), posterior.max(1).astype(np.float32), profiles, in_nuclei)
    from sjg.pp._clustering import cluster_nuclei

    codes, confidence = cluster_nuclei(counts, random_state=request.random_state)
    names = tuple(str(k) for k in range(int(codes.max()) + 1))
    return CellTypes(names, codes.astype(np.int32), confidence.astype(np.float32), None)


def _given_types(
    names: tuple[str, ...], codes: NDArray[np.int32], reference: tuple[tuple[str, ...], NDArray[np.float64]] | None
) -> CellTypes:
    """Types from a column; profiles from the reference where it has them all, else learned from the nuclei."""
    confidence = np.where(codes >= 0, 0.9, 0.0).astype(np.float32)
    if reference is None:
        return CellTypes(names, codes, confidence, None)
    reference_names, profiles = reference
    missing = sorted(set(names) - set(reference_names))
    if missing:
        raise InputError(
            f"The reference has no class for the cell types {', '.join(missing[:5])}; its classes are {', '.join(reference_names[:10])}. "
            "Rename the types, or give either the reference or cell_type_key."
        )
    position = np.array([reference_names.index(n) for n in names])
    moved = np.where(codes >= 0, position[np.maximum(codes, 0)], -1).astype(np.int32)
    return CellTypes(reference_names, moved, confidence, profiles)
