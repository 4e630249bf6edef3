"""Which true instance shares how many elements with which predicted one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array

from sjg.core import InputError, strips

#: ids up to this are counted in a table, whatever their number
_TABLE_SIZE = 1 << 22


@dataclass(frozen=True)
class Overlap:
    """Sparse contingency table of two sets of instances; 0 (background) has no row and no column.

    An element is a pixel of two label images, or a transcript of two lists of cell ids.

    Parameters
    ----------
    truth_id, label_id
        (n,) and (m,) ids, ascending.
    truth_size, label_size
        (n,) and (m,) int64 number of elements of each instance.
    truth_index, label_index, shared
        (k,) the k pairs that share elements: positions in `truth_id` and `label_id`, and the number of elements shared.
    n_background
        Elements that are 0 in both.
    """

    truth_id: NDArray[Any]
    label_id: NDArray[Any]
    truth_size: NDArray[np.int64]
    label_size: NDArray[np.int64]
    truth_index: NDArray[np.intp]
    label_index: NDArray[np.intp]
    shared: NDArray[np.int64]
    n_background: int

    @property
    def iou(self) -> NDArray[np.float64]:
        """(k,) intersection over union of each pair."""
        union = self.truth_size[self.truth_index] + self.label_size[self.label_index] - self.shared
        return self.shared / union

    @property
    def n_elements(self) -> int:
        """Number of elements looked at, background included."""
        return int(self.truth_size.sum() + self.label_size.sum() - self.shared.sum()) + self.n_background


def label_overlap(truth: ArrayLike, labels: ArrayLike) -> Overlap:
    """Contingency table of two id arrays.

    Runs of equal pairs are counted block by block, so that time grows with the length of the outlines rather than with the area,
    and memory stays at a few blocks. NumPy arrays, memory maps and lazy arrays that can be sliced along the first axis will do.

    Parameters
    ----------
    truth, labels
        Integer arrays of one shape, such as (height, width) label images or (N,) cells of transcripts; 0 = background.

    Raises
    ------
    InputError
        The shapes differ, an array is no integer array, or an id is negative.

    Examples
    --------
    >>> import numpy as np
    >>> table = label_overlap(np.array([[1, 1, 2, 0]]), np.array([[7, 7, 7, 0]]))
    >>> table.truth_id, table.label_id, table.shared, table.n_background
    (array([1, 2]), array([7]), array([2, 1]), 1)
    >>> table.iou.round(3)
    array([0.667, 0.333])
    """
    first, second = as_ids(truth, "truth"), as_ids(labels, "labels")
    if tuple(first.shape) != tuple(second.shape):
        msg = f"truth and labels must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}; bring both onto one grid"
        raise InputError(msg)
    counter = OverlapCounter()
    for rows in strips(first.shape):
        counter.add(np.asarray(first[rows]), np.asarray(second[rows]))
    return counter.overlap()


class OverlapCounter:
    """:func:`label_overlap` of arrays that come in parts, in any order.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.metrics._overlap import OverlapCounter
    >>> counter = OverlapCounter()
    >>> counter.add(np.array([1, 1]), np.array([7, 7]))
    >>> counter.add(np.array([2, 0]), np.array([7, 0]))
    >>> counter.overlap().shared
    array([2, 1])
    """

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]] = []

    def add(self, truth: NDArray[Any], labels: NDArray[Any]) -> None:
        """Count the pairs of two arrays of ids of one shape."""
        self._parts.append(_sum_pairs(*_runs(truth, labels)))

    def overlap(self) -> Overlap:
        """The table of all that was added.

        Raises
        ------
        InputError
            An id is negative.
        """
        nothing = (np.zeros(0, np.int64),) * 3
        a, b, n = _sum_pairs(*(np.concatenate(column) for column in zip(*(self._parts or [nothing]), strict=True)))
        if len(a) and (a.min() < 0 or b.min() < 0):
            msg = "ids must not be negative; use 0 for background"
            raise InputError(msg)

        truth_id, truth_inverse = _compact(a)
        label_id, label_inverse = _compact(b)
        truth_size = np.bincount(truth_inverse, weights=n, minlength=len(truth_id)).astype(np.int64)
        label_size = np.bincount(label_inverse, weights=n, minlength=len(label_id)).astype(np.int64)
        truth_first, label_first = int(np.searchsorted(truth_id, 1)), int(np.searchsorted(label_id, 1))
        both = (a > 0) & (b > 0)
        return Overlap(
            truth_id=truth_id[truth_first:],
            label_id=label_id[label_first:],
            truth_size=truth_size[truth_first:],
            label_size=label_size[label_first:],
            truth_index=truth_inverse[both] - truth_first,
            label_index=label_inverse[both] - label_first,
            shared=n[both],
            n_background=int(n[(a == 0) & (b == 0)].sum()),
        )


def as_ids(ids: ArrayLike, name: str) -> Any:
    """`ids` as something with a shape that can be sliced, checked to hold integers."""
    array: Any = ids if hasattr(ids, "shape") and hasattr(ids, "dtype") else np.asarray(ids)
    if array.ndim == 0:
        msg = f"{name} must be an array of ids, got a single number"
        raise InputError(msg)
    if 0 not in array.shape and not np.issubdtype(array.dtype, np.integer):
        msg = f"{name} must hold integer ids, got dtype {array.dtype}; label connected regions of a mask first (scipy.ndimage.label)"
        raise InputError(msg)
    return array


def _runs(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Runs of equal pairs along the last axis: the two ids and the length of each."""
    a, b = a.ravel(), b.ravel()
    if not a.size:
        return a, b, np.zeros(0, np.int64)
    start = np.concatenate([[0], np.flatnonzero((a[1:] != a[:-1]) | (b[1:] != b[:-1])) + 1])
    return a[start], b[start], np.diff(start, append=a.size)


def _sum_pairs(a: NDArray[Any], b: NDArray[Any], n: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Each pair once, with the sum of its counts, sorted by the first id and then the second."""
    a_id, row = _compact(a)
    b_id, column = _compact(b)
    table = coo_array((n, (row, column)), shape=(len(a_id), len(b_id))).tocsr()
    table.sum_duplicates()
    table = table.tocoo()
    return a_id[table.coords[0]], b_id[table.coords[1]], table.data


def _compact(ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The ids that occur, ascending, and the position of each entry among them."""
    if not ids.size or ids.min() < 0 or ids.max() > 4 * ids.size + _TABLE_SIZE:
        found, inverse = np.unique(ids, return_inverse=True)
        return found, inverse
    # a table by id needs no sort
    occurs = np.zeros(int(ids.max()) + 1, dtype=bool)
    occurs[ids] = True
    return np.flatnonzero(occurs).astype(ids.dtype), (np.cumsum(occurs) - 1)[ids]
