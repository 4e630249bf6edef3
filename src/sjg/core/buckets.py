"""Sorting by bucket in two passes over data that need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

#: rows looked at together
_PART_ROWS = 1 << 20


def parts(n_rows: int) -> Iterator[slice]:
    """Slices that cover `n_rows` rows, short enough to work on in memory.

    Examples
    --------
    >>> from sjg.core.buckets import parts
    >>> list(parts(5))
    [slice(0, 5, None)]
    """
    for start in range(0, n_rows, _PART_ROWS):
        yield slice(start, min(start + _PART_ROWS, n_rows))


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis of an array, short enough to work on in memory however long the others are.

    Examples
    --------
    >>> from sjg.core.buckets import strips
    >>> list(strips((3, 4)))
    [slice(0, 3, None)]
    """
    step = max(1, _PART_ROWS // max(1, prod(shape[1:])))
    for top in range(0, shape[0], step):
        yield slice(top, min(top + step, shape[0]))


class Buckets:
    """Where each row goes when rows are sorted by bucket, in their order within a bucket.

    Parameters
    ----------
    bucket_of
        Maps a slice of rows to their buckets, 0..n_buckets-1.
    n_rows, n_buckets
        Numbers of rows and of buckets.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.core.buckets import Buckets
    >>> values, bucket = np.array([10, 11, 12, 13]), np.array([1, 0, 1, 0])
    >>> out = np.zeros(4, int)
    >>> buckets = Buckets(lambda rows: bucket[rows], 4, 2)
    >>> for rows, place in buckets.places():
    ...     out[place] = values[rows]
    >>> out.tolist(), buckets.starts.tolist()
    ([11, 13, 10, 12], [0, 2, 4])
    """

    def __init__(self, bucket_of: Callable[[slice], NDArray[np.integer]], n_rows: int, n_buckets: int) -> None:
        self._bucket_of, self._n_rows = bucket_of, n_rows
        size = np.zeros(n_buckets, np.int64)
        for rows in parts(n_rows):
            size += np.bincount(bucket_of(rows), minlength=n_buckets)
        #: (n_buckets + 1,) first place of each bucket
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(size)])

    def places(self) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Slices of rows and the place of each of their rows."""
        filled = self.starts[:-1].copy()
        for rows in parts(self._n_rows):
            bucket = self._bucket_of(rows)
            order = np.argsort(bucket, kind="stable")
            sorted_bucket = bucket[order]
            first = np.flatnonzero(np.diff(sorted_bucket, prepend=-1))
            run = np.diff(np.append(first, len(bucket)))
            within = np.arange(len(bucket)) - np.repeat(first, run)
            place = np.empty(len(bucket), np.int64)
            place[order] = filled[sorted_bucket] + within
            filled[sorted_bucket[first]] += run
            yield rows, place
