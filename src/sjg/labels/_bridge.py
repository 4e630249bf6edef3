"""Bridging of gaps between pixels of one instance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError

Labels = NDArray[np.integer]

#: one of each pair of opposite directions: row, column, two diagonals
_AXES = ((0, 1), (1, 0), (1, 1), (1, -1))


def bridge_gaps(labels: Labels, territories: Labels, *, max_gap_px: int) -> Labels:
    """Fill gaps between two pixels of one instance that face each other.

    A free pixel joins instance i if it lies in the territory of i and if along a row, a column or a diagonal the first labelled pixels on
    both of its sides belong to i with at most `max_gap_px` free pixels between them. All gaps are judged on the labels as given.

    Parameters
    ----------
    labels
        (H, W) ids, 0 = free.
    territories
        (H, W) the id that may take each pixel, 0 = none.
    max_gap_px
        Longest gap in pixels, 0 = nothing is bridged.

    Returns
    -------
    (H, W) labels.

    Raises
    ------
    InputError
        `max_gap_px` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import bridge_gaps
    >>> bridge_gaps(np.array([[3, 0, 0, 3, 0, 0, 0, 3]]), np.full((1, 8), 3), max_gap_px=2)
    array([[3, 3, 3, 3, 0, 0, 0, 3]])
    """
    if max_gap_px < 0:
        raise InputError(f"max_gap_px is {max_gap_px}; give a whole number >= 0.")
    joins = np.zeros(labels.shape, dtype=bool)
    if max_gap_px > 0:
        for dy, dx in _AXES:
            ahead, steps_ahead = _first_seen(labels, dy, dx, max_gap_px)
            behind, steps_behind = _first_seen(labels, -dy, -dx, max_gap_px)
            gap_px = steps_ahead + steps_behind - 1
            joins |= (ahead > 0) & (ahead == behind) & (ahead == territories) & (gap_px <= max_gap_px)
    return np.where((labels == 0) & joins, territories, labels).astype(labels.dtype, copy=False)


def _first_seen(labels: Labels, dy: int, dx: int, reach: int) -> tuple[Labels, NDArray[np.intp]]:
    """Label of the first labelled pixel in a direction within `reach` steps (0 = none) and the number of steps to it."""
    height, width = labels.shape
    padded = np.pad(labels, reach)
    seen = np.zeros_like(labels)
    steps = np.zeros(labels.shape, dtype=np.intp)
    for k in range(1, reach + 1):
        top, left = reach + k * dy, reach + k * dx
        view = padded[top : top + height, left : left + width]
        new = (seen == 0) & (view > 0)
        seen[new] = view[new]
        steps[new] = k
    return seen, steps
