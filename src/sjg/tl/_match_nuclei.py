"""Repair: cells and nuclei that belong together."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sjg import access
from sjg._keys import table_key
from sjg._logging import logger
from sjg._settings import settings
from sjg.core import InputError
from sjg.imaging import match_nuclei as match
from sjg.imaging import repaired_labels
from sjg.imaging._blocks import iter_boxes, read
from sjg.tl._patch_progress import patch_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spatialdata import SpatialData

    from sjg.imaging import NucleusMatches

_PARTS = ("cells", "nuclei", "cytoplasm")


def match_nuclei(
    sdata: SpatialData,
    cells_key: str,
    nuclei_key: str,
    *,
    assignment: Literal["optimal", "greedy"] = "optimal",
    image_key: str | None = None,
    channels: Sequence[str | int] | None = None,
    pixel_size_um: float | None = None,
    coordinate_system: str = "global",
    key_added: str = "matched",
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Pair cells with nuclei, trim each nucleus to the interior of its cell, and drop what has no partner.

    The mismatch of a pair is the part of the nucleus outside the interior of the cell (the cell without its inner boundary); pairs with
    mismatch 1 never form. Where `nuclei_key` has another raster or frame, it is brought to the pixels of `cells_key`. Labels are read and
    written block by block; those of more than 67 million pixels never lie in memory as a whole where a store backs the object.

    Parameters
    ----------
    sdata
        The object, changed in place.
    cells_key, nuclei_key
        2-D labels of whole cells and of nuclei; ids may have gaps.
    assignment
        ``"optimal"``: the pairs with the smallest total mismatch, an unmatched cell counting 1. ``"greedy"``: the published rule, cells in
        the order of their ids.
    image_key
        An image whose mean intensity in each cell becomes ``X`` of the table; None leaves the table without variables.
    channels
        Channels of `image_key`; None takes all.
    pixel_size_um
        Side of a full-resolution pixel of the image, scaled to the pixels of the cells; None takes what the run of the cells recorded,
        else deduces it from the frame of the transcripts.
    coordinate_system
        Where the elements meet.
    key_added
        Prefix of the outputs.
    overwrite
        Whether outputs of these names may be replaced.
    progress
        Whether to show bars.

    Returns
    -------
    None, and writes

    ``labels["{key_added}_cells"]``, ``labels["{key_added}_nuclei"]``, ``labels["{key_added}_cytoplasm"]``
        int32 (y, x), one id 1..m for each pair, with the transformations of `cells_key`; cytoplasm is the cell without its nucleus.
    ``tables["{key_added}_table"]``
        Annotates ``{key_added}_cells``; ``obs``: ``mismatch``; ``retained_fraction`` (1 - mismatch); ``area_um2``, ``nucleus_area_um2``,
        ``cytoplasm_area_um2`` (``_px2`` where no pixel size is known); ``nucleus_cytoplasm_ratio`` (of the areas, infinite where there is no
        cytoplasm); ``source_cell_id``, ``source_nucleus_id``. ``obsm["spatial"]``. ``uns["match_nuclei"]``: counts and fractions before and after,
        ``total_mismatch``, ``matched_fraction`` (m / (cells + nuclei - m)), ``retained_fraction`` (pixels of the matched nuclei that
        are kept).

    Raises
    ------
    MissingElementError
        No such labels or image.
    ExistingElementError
        An output exists and `overwrite` is False.
    InputError
        Labels that cannot be read, or not a single pair.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64))
    >>> sjg.tl.match_nuclei(sdata, "cells", "nuclei")
    >>> bool((sdata["matched_table"].obs["mismatch"] < 1).all())
    True
    """
    cells_key = access.choose_labels(sdata, cells_key, argument="cells_key")
    nuclei_key = access.choose_labels(sdata, nuclei_key, argument="nuclei_key")
    if image_key is not None:
        image_key = access.choose_image(sdata, image_key)
    keys = {part: f"{key_added}_{part}" for part in _PARTS}
    table_name = table_key(key_added)
    access.check_new_keys(sdata, {"labels": list(keys.values()), "tables": [table_name]}, key_added=key_added, overwrite=overwrite)
    cells, nuclei, source_ids = access.read_label_pair(sdata, cells_key, nuclei_key, coordinate_system=coordinate_system)
    with patch_progress(progress, "pairs") as report:
        matches = match(cells, nuclei, assignment=assignment, report=report)
    if not len(matches):
        raise InputError(
            f"No cell of labels[{cells_key!r}] has a nucleus of labels[{nuclei_key!r}] in its interior ({matches.n_cells} cells, "
            f"{matches.n_nuclei} nuclei); check that both lie in the same place in {coordinate_system!r}."
        )
    points_key = next(iter(sdata.points)) if len(sdata.points) == 1 else None
    size = access.labels_pixel_size_um(sdata, cells_key, points_key, coordinate_system=coordinate_system, pixel_size_um=pixel_size_um)
    grid = access.labels_grid(sdata, cells_key, coordinate_system=coordinate_system, pixel_size_um=size)
    nucleus_ids = matches.nucleus_id if source_ids is None else source_ids[matches.nucleus_id - 1]
    values, names = _intensity(sdata, cells_key, image_key, channels, matches, coordinate_system, progress)
    summary = _summary(matches, assignment)
    on_disk = grid.shape[0] * grid.shape[1] > access.MAX_IN_MEMORY_PX2
    with tempfile.TemporaryDirectory(prefix="sjg-match-nuclei-", dir=settings.scratch_dir) as scratch:
        parts = access.blank_rasters(_PARTS, grid.shape, Path(scratch) if on_disk else None)
        with patch_progress(progress, "repair") as report:
            centroid = _write_parts(parts, cells, nuclei, matches, report)
        table = access.instance_table(
            values,
            names,
            region=keys["cells"],
            instance_ids=np.arange(1, len(matches) + 1),
            obs={
                "mismatch": matches.mismatch,
                "retained_fraction": 1 - matches.mismatch,
                **_areas(matches, grid.pixel_size_um),
                "source_cell_id": matches.cell_id,
                "source_nucleus_id": nucleus_ids,
            },
            spatial=access.apply_affine(grid.matrix, centroid),
            uns={"match_nuclei": access.plain(summary | {"cells_key": cells_key, "nuclei_key": nuclei_key})},
        )
        if on_disk and sdata.path is None:
            # the scratch files go: without a store the result has to live in memory
            parts = {name: np.asarray(array) for name, array in parts.items()}
        elements = access.labels_like(sdata, cells_key, parts)
        outputs = access.Outputs(labels={keys[part]: elements[part] for part in _PARTS}, tables={table_name: table})
        access.attach(sdata, outputs)
        if on_disk:
            access.read_again(sdata, {"labels": list(keys.values())})
    logger.info(
        "%d pairs of %d cells and %d nuclei; %.1f %% of their nuclei kept",
        len(matches),
        matches.n_cells,
        matches.n_nuclei,
        100 * summary["retained_fraction"],
    )


def _write_parts(
    parts: Mapping[str, Any], cells: Any, nuclei: Any, matches: NucleusMatches, report: Callable[[int, int], None]
) -> NDArray[np.float64]:
    """Write cells, nuclei and cytoplasm of the pairs; return the (m, 2) centroids (x, y) of the cells in pixels."""
    shape = tuple(cells.shape)
    sums = np.zeros((2, len(matches) + 1))
    for box in iter_boxes(shape, report=report):
        outer = box.grown(1, shape)
        repaired = repaired_labels(read(cells, outer), read(nuclei, outer), matches)
        for name, labels in zip(_PARTS, repaired, strict=True):
            block = labels[box.inside(outer)]
            if block.any():
                parts[name][box.slices] = block
        block = repaired[0][box.inside(outer)]
        row, column = np.nonzero(block)
        for axis, position in enumerate((column + (box.left + 0.5), row + (box.top + 0.5))):
            sums[axis] += np.bincount(block[row, column], position, minlength=len(matches) + 1)
    centroid: NDArray[np.float64] = (sums[:, 1:] / matches.cell_area_px2).T
    return centroid


def _intensity(
    sdata: SpatialData,
    cells_key: str,
    image_key: str | None,
    channels: Sequence[str | int] | None,
    matches: NucleusMatches,
    coordinate_system: str,
    progress: bool,
) -> tuple[Any, list[str]]:
    if image_key is None:
        return np.zeros((len(matches), 0)), []
    indices = access.choose_planes(sdata, image_key, channels)
    with patch_progress(progress, "mean intensity") as report:
        ids, means, _, _ = access.mean_intensity(sdata, cells_key, image_key, indices, coordinate_system=coordinate_system, report=report)
    row = np.searchsorted(ids, matches.cell_id).clip(max=len(ids) - 1)
    values = np.where((ids[row] == matches.cell_id)[:, None], means[row], np.nan)
    return values, access.channel_names(sdata, image_key, indices)


def _areas(matches: NucleusMatches, pixel_size_um: float | None) -> dict[str, Any]:
    unit, factor = ("px2", 1.0) if pixel_size_um is None else ("um2", pixel_size_um**2)
    cytoplasm = matches.cell_area_px2 - matches.retained_px2
    with np.errstate(divide="ignore"):
        ratio = matches.retained_px2 / cytoplasm
    return {
        f"area_{unit}": matches.cell_area_px2 * factor,
        f"nucleus_area_{unit}": matches.retained_px2 * factor,
        f"cytoplasm_area_{unit}": cytoplasm * factor,
        "nucleus_cytoplasm_ratio": ratio,
    }


def _summary(matches: NucleusMatches, assignment: str) -> dict[str, Any]:
    n_pairs = len(matches)
    return {
        "assignment": assignment,
        "n_cells": matches.n_cells,
        "n_nuclei": matches.n_nuclei,
        "n_matched": n_pairs,
        "n_unmatched_cells": matches.n_cells - n_pairs,
        "n_unmatched_nuclei": matches.n_nuclei - n_pairs,
        "matched_cells_fraction": n_pairs / matches.n_cells,
        "matched_nuclei_fraction": n_pairs / matches.n_nuclei,
        "matched_fraction": matches.matched_fraction,
        "n_repaired": int((matches.mismatch > 0).sum()),
        "total_mismatch": matches.total_mismatch,
        "retained_fraction": float(matches.retained_px2.sum() / matches.nucleus_area_px2.sum()),
    }
