"""Cells that end in a straight line where two tiles meet."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def fraction_cut_at_lines(
    labels: NDArray[np.integer], *, rows_px: Iterable[int] = (), columns_px: Iterable[int] = (), min_edge: float = 0.5
) -> float:
    """Share of the cells at some lines that end there in a long straight edge.

    Give the borders of the tiles that a segmentation was made in; the same number at other lines says what is chance. A cell is cut
    where its outline runs along a line without a break for `min_edge` diameters (of the circle of its area).

    Parameters
    ----------
    labels
        (H, W) ids, 0 = background.
    rows_px
        Lines above these rows, in 1..H-1.
    columns_px
        Lines left of these columns, in 1..W-1.
    min_edge
        Length in diameters from which an edge counts.

    Returns
    -------
    Cut cells over those with a pixel beside one of the lines; NaN where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.zeros((8, 16), int)
    >>> labels[2:7, 2:6], labels[2:4, 9:13] = 1, 2
    >>> fraction_cut_at_lines(labels, rows_px=[4])
    0.5
    """
    labels = np.asarray(labels)
    diameter = 2.0 * np.sqrt(np.bincount(labels.ravel()) / np.pi)
    longest = np.zeros(len(diameter))
    beside = np.zeros(len(diameter), dtype=bool)
    for raster, lines in ((labels, rows_px), (labels.T, columns_px)):
        for line in lines:
            before, after = raster[line - 1], raster[line]
            for side in (before, after):
                beside[side] = True
                np.maximum.at(longest, *_runs(np.where(before != after, side, 0)))
    beside[0] = False
    cut = longest[beside] >= min_edge * diameter[beside]
    return float(cut.mean()) if len(cut) else float("nan")


def _runs(ids: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Id and length of each run of one id."""
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    return ids[starts], np.diff(np.r_[starts, len(ids)])
