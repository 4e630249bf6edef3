"""Rasters of any size, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjg.imaging._layout import Box

#: side of the blocks; labels and images are written in chunks of this size
BLOCK_PX = 2048

#: is told (blocks done, blocks in all)
Report = Callable[[int, int], None]
#: returns (y, x) bool for a box: the pixels that count
Region = Callable[[Box], NDArray[np.bool_]]


def iter_boxes(shape: tuple[int, ...], *, side: int | None = None, report: Report | None = None) -> Iterator[Box]:
    """Boxes that cover a raster once, row by row; `report` is told when the work on each is done.

    Examples
    --------
    >>> from sjg.imaging._blocks import iter_boxes
    >>> [tuple(box) for box in iter_boxes((3, 5), side=3)]
    [(0, 0, 3, 3), (0, 3, 3, 5)]
    """
    side = side or BLOCK_PX
    height, width = shape
    starts = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    for done, (top, left) in enumerate(starts, start=1):
        yield Box(top, left, min(height, top + side), min(width, left + side))
        if report is not None:
            report(done, len(starts))


def read(raster: Any, box: Box) -> NDArray[Any]:
    """The pixels of a box of a NumPy, Zarr or Dask array."""
    return np.asarray(raster[box.slices])
