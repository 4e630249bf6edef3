"""How an image is cut into patches that overlap, and which patch answers for which pixel."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of an image, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def grown(self, reach_px: int, shape: tuple[int, int], *, grain_px: int = 1) -> Box:
        """The box with a margin, inside the image; its first row and column are multiples of `grain_px`."""
        top, left = (max(0, start - reach_px) // grain_px * grain_px for start in (self.top, self.left))
        return Box(top, left, min(shape[0], self.bottom + reach_px), min(shape[1], self.right + reach_px))

    def inside(self, outer: Box) -> tuple[slice, slice]:
        """Where the box lies in an array that covers `outer`."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )


@dataclass(frozen=True)
class PatchLayout:
    """A grid of patches.

    Neighbours overlap; the middle of each overlap parts their *cores*, which cover the image without overlap.

    Parameters
    ----------
    shape
        (height, width) of the image.
    row_starts, column_starts
        First row or column of the patches, ascending.
    size
        (height, width) of every patch.
    """

    shape: tuple[int, int]
    row_starts: tuple[int, ...]
    column_starts: tuple[int, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.row_starts) * len(self.column_starts)

    @property
    def row_edges(self) -> NDArray[np.int64]:
        """Borders between the cores, with 0 and the height of the image."""
        return _edges(self.row_starts, self.size[0], self.shape[0])

    @property
    def column_edges(self) -> NDArray[np.int64]:
        """Borders between the cores, with 0 and the width of the image."""
        return _edges(self.column_starts, self.size[1], self.shape[1])

    def position(self, index: int) -> tuple[int, int]:
        """Row and column of a patch in the grid; patches are numbered row by row from 0."""
        return divmod(index, len(self.column_starts))

    def box(self, index: int) -> Box:
        """The pixels of a patch."""
        row, column = self.position(index)
        top, left = self.row_starts[row], self.column_starts[column]
        return Box(top, left, min(self.shape[0], top + self.size[0]), min(self.shape[1], left + self.size[1]))

    def core(self, index: int) -> Box:
        """The pixels for which a patch answers."""
        row, column = self.position(index)
        rows, columns = self.row_edges, self.column_edges
        return Box(int(rows[row]), int(columns[column]), int(rows[row + 1]), int(columns[column + 1]))

    def owner(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.int64]:
        """Patch whose core holds each point."""
        row, column = self._row(y), self._column(x)
        return np.asarray(row * len(self.column_starts) + column, dtype=np.int64)

    def covered(self, chosen: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
        """Pixels of a box that lie in the cores of the `chosen` patches."""
        row = self._row(np.arange(box.top, box.bottom) + 0.5)
        column = self._column(np.arange(box.left, box.right) + 0.5)
        pixels: NDArray[np.bool_] = chosen.reshape(len(self.row_starts), -1)[np.ix_(row, column)]
        return pixels

    def _row(self, y: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        return np.clip(np.searchsorted(self.row_edges, y, side="right") - 1, 0, len(self.row_starts) - 1)

    def _column(self, x: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        return np.clip(np.searchsorted(self.column_edges, x, side="right") - 1, 0, len(self.column_starts) - 1)


def lay_patches(shape: tuple[int, int], size: tuple[int, int], *, overlap: float = 0.1) -> PatchLayout:
    """Patches of one size, spread evenly over the image so that neighbours share at least `overlap` of their side.

    Parameters
    ----------
    shape
        (height, width) of the image.
    size
        (height, width) of a patch; at most that of the image is used.
    overlap
        Least fraction of the side that two neighbours share, in [0, 0.9].

    Examples
    --------
    >>> from sjg.imaging import lay_patches
    >>> layout = lay_patches((100, 250), (100, 100), overlap=0.1)
    >>> layout.column_starts, layout.column_edges.tolist()
    ((0, 75, 150), [0, 88, 163, 250])
    """
    sides = tuple(min(extent, side) for extent, side in zip(shape, size, strict=True))
    rows, columns = (_starts(extent, side, overlap) for extent, side in zip(shape, sides, strict=True))
    return PatchLayout(shape, rows, columns, (sides[0], sides[1]))


def split_evenly(shape: tuple[int, int], parts: tuple[int, int], *, overlap: float = 0.0) -> PatchLayout:
    """`parts` patches along each axis, e.g. ``(2, 2)`` for quarters, which share `overlap` of their side.

    Examples
    --------
    >>> from sjg.imaging import split_evenly
    >>> [tuple(split_evenly((10, 20), (1, 2)).box(index)) for index in (0, 1)]
    [(0, 0, 10, 10), (0, 10, 10, 20)]
    """
    # n sides of length s that share a fraction o each cover s (n - (n - 1) o)
    sides = [ceil(extent / (count - (count - 1) * overlap)) for extent, count in zip(shape, parts, strict=True)]
    starts = [
        tuple(int(round(i * (extent - side) / max(1, count - 1))) for i in range(count))
        for extent, count, side in zip(shape, parts, sides, strict=True)
    ]
    return PatchLayout(shape, starts[0], starts[1], (sides[0], sides[1]))


def _starts(extent: int, side: int, overlap: float) -> tuple[int, ...]:
    if side >= extent:
        return (0,)
    step = max(1.0, side * (1 - overlap))
    count = ceil((extent - side) / step) + 1
    return tuple(int(round(index * (extent - side) / (count - 1))) for index in range(count))


def _edges(starts: tuple[int, ...], side: int, extent: int) -> NDArray[np.int64]:
    inner = [(one + side + other + 1) // 2 for one, other in pairwise(starts)]
    return np.array([0, *inner, extent], dtype=np.int64)
