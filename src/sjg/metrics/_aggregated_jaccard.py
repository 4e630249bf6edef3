"""Aggregated Jaccard index."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sjg.metrics._overlap import Overlap, label_overlap


def aggregated_jaccard(truth: ArrayLike, labels: ArrayLike) -> float:
    """Aggregated Jaccard index (AJI).

    Each true instance takes the predicted one with the largest IoU. The intersections of these pairs are summed, and divided by
    the summed unions plus the area of every predicted instance that no true one took; a true instance without overlap adds its
    own area to the union. A predicted instance may be taken twice, as in the original definition. Of several with equal IoU the
    largest overlap is summed, and all of them count as taken, so that the value does not hang on the order of the ids.
    Not symmetric.

    Parameters
    ----------
    truth, labels
        Integer label images of one shape, 0 = background.

    Returns
    -------
    A number in [0, 1]; NaN where neither image holds an instance.

    Raises
    ------
    InputError
        Shapes differ or ids are no non-negative integers.

    References
    ----------
    Kumar et al. (2017), IEEE Transactions on Medical Imaging 36:1550, algorithm 1.

    Examples
    --------
    Pair 3 of 4 pixels, a missed cell of 2, an invented one of 1: 3 / (4 + 2 + 1).

    >>> import numpy as np
    >>> round(aggregated_jaccard(np.array([[1, 1, 1, 1, 0, 2, 2, 0]]), np.array([[5, 5, 5, 0, 0, 0, 0, 8]])), 4)
    0.4286
    """
    return aggregated(label_overlap(truth, labels))


def aggregated(overlap: Overlap) -> float:
    """:func:`aggregated_jaccard` from the overlap table."""
    if not len(overlap.truth_id) + len(overlap.label_id):
        return float("nan")
    row, column, shared, values = overlap.truth_index, overlap.label_index, overlap.shared, overlap.iou
    best = np.zeros(len(overlap.truth_id))
    np.maximum.at(best, row, values)
    taken = values == best[row]
    intersection = np.zeros(len(overlap.truth_id), dtype=np.int64)
    np.maximum.at(intersection, row[taken], shared[taken])
    union = overlap.truth_size.copy()
    # with the IoU given, the union follows the intersection: the largest of both belongs to the same pair
    np.maximum.at(union, row[taken], (overlap.truth_size[row] + overlap.label_size[column] - shared)[taken])
    is_free = np.ones(len(overlap.label_id), dtype=bool)
    is_free[column[taken]] = False
    return float(intersection.sum() / (union.sum() + overlap.label_size[is_free].sum()))
