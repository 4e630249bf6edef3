"""Cells and nuclei become pairs: each cell keeps the nucleus that fits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError
from sjg.imaging._blocks import Report, iter_boxes, read
from sjg.imaging._boundaries import inner_boundary
from sjg.metrics._overlap import OverlapCounter, as_ids
from sjg.metrics._pairing import optimal_pairs

Assignment = Literal["optimal", "greedy"]


@dataclass(frozen=True)
class NucleusMatches:
    """Pairs of cells and nuclei, by ascending id of the cell, and what they were chosen from.

    Parameters
    ----------
    cell_id, nucleus_id
        (m,) ids of each pair.
    mismatch
        (m,) part of the nucleus that lies outside the interior of its cell, in [0, 1).
    cell_area_px2, nucleus_area_px2
        (m,) pixels of the cell, and of the nucleus before it is trimmed.
    retained_px2
        (m,) pixels of the nucleus that are kept: those in the interior of the cell.
    n_cells, n_nuclei
        How many there were.
    """

    cell_id: NDArray[np.int64]
    nucleus_id: NDArray[np.int64]
    mismatch: NDArray[np.float64]
    cell_area_px2: NDArray[np.int64]
    nucleus_area_px2: NDArray[np.int64]
    retained_px2: NDArray[np.int64]
    n_cells: int
    n_nuclei: int

    def __len__(self) -> int:
        return len(self.cell_id)

    @property
    def total_mismatch(self) -> float:
        """Sum over all cells; one without a nucleus counts 1, so that pairings of different size compare."""
        return float(self.mismatch.sum()) + self.n_cells - len(self)

    @property
    def matched_fraction(self) -> float:
        """M / (cells + nuclei - m): 1 where all are paired; NaN where there is nothing."""
        union = self.n_cells + self.n_nuclei - len(self)
        return len(self) / union if union else float("nan")


def match_nuclei(cells: Any, nuclei: Any, *, assignment: Assignment = "optimal", report: Report | None = None) -> NucleusMatches:
    """Pair cells with nuclei.

    A pair may form where the nucleus has pixels in the *interior* of the cell, which is the cell without its inner boundary. Its mismatch
    is the part of the nucleus outside that interior.

    Parameters
    ----------
    cells, nuclei
        (y, x) integer labels of one shape, 0 = background; ids may have gaps. NumPy, Zarr or Dask arrays, read block by block.
    assignment
        ``"optimal"`` minimises the total mismatch over all cells, an unmatched one counting 1. ``"greedy"`` is the published rule: in the
        order of their ids, each cell takes the unused nucleus with the smallest mismatch (of several, the lowest id).
    report
        Is told (blocks done, blocks in all).

    Raises
    ------
    InputError
        The shapes differ, the arrays are no labels, or `assignment` is unknown.

    References
    ----------
    Chen & Murphy (2023), Molecular Biology of the Cell 34:ar50 (the repair of CellSegmentationEvaluator).

    Examples
    --------
    A cell of 4 x 4 pixels with an interior of 2 x 2; a nucleus of 4 pixels, 2 of them in that interior.

    >>> import numpy as np
    >>> from sjg.imaging import match_nuclei
    >>> cells, nuclei = np.zeros((6, 6), dtype=int), np.zeros((6, 6), dtype=int)
    >>> cells[1:5, 1:5], nuclei[2, 1:5] = 7, 9
    >>> pairs = match_nuclei(cells, nuclei)
    >>> pairs.cell_id.tolist(), pairs.nucleus_id.tolist(), pairs.mismatch.tolist()
    ([7], [9], [0.5])
    """
    if assignment not in ("optimal", "greedy"):
        raise InputError(f"assignment={assignment!r} is unknown; choose 'optimal' or 'greedy'.")
    cells, nuclei = as_ids(cells, "cells"), as_ids(nuclei, "nuclei")
    if tuple(cells.shape) != tuple(nuclei.shape):
        raise InputError(f"cells and nuclei must have one shape, got {tuple(cells.shape)} and {tuple(nuclei.shape)}.")
    counters = OverlapCounter(), OverlapCounter()
    for box in iter_boxes(cells.shape, report=report):
        outer = box.grown(1, cells.shape)
        window = read(cells, outer)
        interior = np.where(inner_boundary(window), 0, window)
        part, at = read(nuclei, box), box.inside(outer)
        for counter, labels in zip(counters, (window, interior), strict=True):
            counter.add(labels[at], part)
    whole, inside = (counter.overlap() for counter in counters)
    cell = np.searchsorted(whole.truth_id, inside.truth_id)[inside.truth_index]
    nucleus = np.searchsorted(whole.label_id, inside.label_id)[inside.label_index]
    retained = inside.shared / whole.label_size[nucleus]
    chosen = optimal_pairs(cell, nucleus, retained) if assignment == "optimal" else _greedy(cell, nucleus, retained)
    picked = np.flatnonzero(chosen)
    picked = picked[np.argsort(cell[picked], kind="stable")]
    cell, nucleus = cell[picked], nucleus[picked]
    return NucleusMatches(
        cell_id=whole.truth_id[cell].astype(np.int64),
        nucleus_id=whole.label_id[nucleus].astype(np.int64),
        mismatch=1 - retained[picked],
        cell_area_px2=whole.truth_size[cell],
        nucleus_area_px2=whole.label_size[nucleus],
        retained_px2=inside.shared[picked],
        n_cells=len(whole.truth_id),
        n_nuclei=len(whole.label_id),
    )


def repaired_labels(
    cells: NDArray[Any], nuclei: NDArray[Any], matches: NucleusMatches
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Matched cells, their nuclei trimmed to the interior, and cytoplasm (cell without nucleus), with one id 1..m for each pair.

    Also right for a block of the image, as long as it has a pixel of margin.
    """
    number = np.arange(1, len(matches) + 1, dtype=np.int32)
    cell = _renumber(cells, matches.cell_id, number)
    nucleus = _renumber(nuclei, matches.nucleus_id, number)
    nucleus = np.where((nucleus == cell) & ~inner_boundary(cells), nucleus, 0).astype(np.int32)
    return cell, nucleus, np.where(nucleus > 0, 0, cell).astype(np.int32)


def _greedy(cell: NDArray[np.intp], nucleus: NDArray[np.intp], retained: NDArray[np.float64]) -> NDArray[np.bool_]:
    """In the order of the cells, the best nucleus that is still free."""
    order = np.lexsort((nucleus, -retained, cell))
    chosen = np.zeros(len(cell), dtype=bool)
    used = np.zeros(int(nucleus.max(initial=-1)) + 1, dtype=bool).tolist()
    served = -1
    # each choice hangs on those before it; there are few more candidate pairs than cells
    for position, one, other in zip(order.tolist(), cell[order].tolist(), nucleus[order].tolist(), strict=True):
        if one != served and not used[other]:
            chosen[position] = used[other] = True
            served = one
    return chosen


def _renumber(labels: NDArray[Any], old: NDArray[np.int64], new: NDArray[np.int32]) -> NDArray[np.int32]:
    if not len(old):
        return np.zeros(labels.shape, dtype=np.int32)
    if int(old.max()) <= 4 * len(old) + labels.size:
        table = np.zeros(int(old.max()) + 2, dtype=np.int32)
        table[old] = new
        return table[np.clip(labels, 0, len(table) - 1)]
    order = np.argsort(old, kind="stable")
    known = np.append(old[order], -1)
    position = np.searchsorted(known[:-1], labels)
    found = known[position] == labels
    return np.where(found & (labels > 0), np.append(new[order], 0)[position], 0).astype(np.int32)
