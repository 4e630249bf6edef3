"""Values of a raster at many points, a part at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjg.core.buckets import parts
from sjg.core.scratch import release, scratch_zeros


def values_at(raster: NDArray[Any], yx_px: NDArray[np.floating]) -> NDArray[Any]:
    """(N,) values of an (H, W) raster at (N, 2) points inside it; neither needs to fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.core import values_at
    >>> values_at(np.array([[1, 2], [3, 4]]), np.array([[0.5, 1.9], [1.0, 0.0]])).tolist()
    [2, 3]
    """
    values = scratch_zeros(len(yx_px), raster.dtype)
    for rows in parts(len(yx_px)):
        y, x = np.floor(yx_px[rows]).astype(np.int64).T
        values[rows] = raster[y, x]
        release(values, raster, yx_px)
    return values
