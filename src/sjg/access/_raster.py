"""Blocks of lazy rasters, each computed once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xarray import DataArray, DataTree

#: side of the pieces in which a computed chunk is processed
_PIECE_PX = 1024


def raster_levels(element: DataArray | DataTree) -> list[DataArray]:
    """The pyramid levels of an image or labels element, the finest first."""
    from xarray import DataTree

    if not isinstance(element, DataTree):
        return [element]
    return [next(iter(element[level].data_vars.values())) for level in element]


def iter_blocks(array: Any) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield (first row, first column, block) over a 2-D dask or NumPy array.

    Each dask chunk is computed once and only one is held at a time; chunks longer than 1,024 pixels come in pieces.
    """
    chunks = getattr(array, "chunks", None) or ((array.shape[0],), (array.shape[1],))
    rows, columns = (list(pairwise(accumulate(sizes, initial=0))) for sizes in chunks)
    for (top, bottom), (left, right) in product(rows, columns):
        chunk = np.asarray(array[top:bottom, left:right])
        for row in range(0, bottom - top, _PIECE_PX):
            for column in range(0, right - left, _PIECE_PX):
                yield top + row, left + column, chunk[row : row + _PIECE_PX, column : column + _PIECE_PX]
