"""Windows that stand for a large image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: side of the windows
WINDOW_PX = 768
#: images up to this many pixels are looked at whole
_WHOLE_PX2 = 4_000_000
#: how many windows there are at the most
_MAX_WINDOWS = 36


def sample_windows(image: Any) -> list[NDArray[Any]]:
    """The whole of a small image, or windows on a regular grid over a large one.

    Parameters
    ----------
    image
        (y, x) array, or anything with a shape that can be sliced to one (a memory map, a Zarr or a Dask array).

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging._sample import sample_windows
    >>> [window.shape for window in sample_windows(np.zeros((100, 200)))]
    [(100, 200)]
    """
    height, width = image.shape
    if height * width <= _WHOLE_PX2:
        return [np.asarray(image[:, :])]
    return [
        np.asarray(image[top : top + WINDOW_PX, left : left + WINDOW_PX])
        for top in _starts(height, _count(height, width))
        for left in _starts(width, _count(width, height))
    ]


def _count(size: int, other: int) -> int:
    """Windows along an axis, so that the grid has the proportions of the image."""
    fits = max(1, size // WINDOW_PX)
    return min(fits, max(1, round(np.sqrt(_MAX_WINDOWS * size / other))), _MAX_WINDOWS)


def _starts(size: int, count: int) -> list[int]:
    """First pixels of `count` windows, each in the middle of its share of the axis."""
    share = size / count
    return [max(0, int((index + 0.5) * share - WINDOW_PX / 2)) for index in range(count)]
