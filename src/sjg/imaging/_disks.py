"""Morphology with disks of any radius, in time that does not depend on it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def grown(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Dilation by a disk; nothing comes in from beyond the border.

    Along columns each pixel learns how far the mask is; along rows it then covers the chord of the disk at that distance.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging._disks import grown
    >>> grown(np.pad([[True]], 2), 2).sum(axis=1).tolist()
    [1, 3, 5, 3, 1]
    """
    if not mask.any():
        return mask
    # half the chord of the disk at each distance from its centre
    half = np.sqrt(radius_px**2 - np.arange(radius_px + 1) ** 2).astype(np.int64)
    result = np.empty(mask.shape, dtype=bool)
    _compiled()(mask, half, result)
    return result


def closed(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Dilation, then erosion."""
    return ~grown(~grown(mask, radius_px), radius_px)


def opened(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Erosion, then dilation."""
    return ~closed(~mask, radius_px)


@cache
def _compiled() -> Any:
    """Downwards the distance to the mask above, upwards that below and the chords."""
    from numba import njit

    @njit(nogil=True)
    def dilate(mask: Any, half: Any, result: Any) -> None:
        height, width = mask.shape
        far = len(half)
        near = np.empty(mask.shape, dtype=np.int16)
        for row in range(height):
            for column in range(width):
                before = near[row - 1, column] if row else far
                near[row, column] = 0 if mask[row, column] else min(before + 1, far)
        below = np.full(width, far)
        for row in range(height - 1, -1, -1):
            edges = np.zeros(width + 1, dtype=np.int32)
            for column in range(width):
                below[column] = 0 if mask[row, column] else min(below[column] + 1, far)
                distance = min(below[column], near[row, column])
                if distance < far:
                    edges[max(0, column - half[distance])] += 1
                    edges[min(width, column + half[distance] + 1)] -= 1
            cover = 0
            for column in range(width):
                cover += edges[column]
                result[row, column] = cover > 0

    return dilate
