"""Labels on a finer raster, with smooth borders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: rows of the fine raster made at a time
_STRIP_PX = 512


def enlarge_labels(labels: NDArray[np.int32], factor: int, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Labels whose pixels are `factor` times finer, cut to `shape`.

    Each fine pixel takes the label with the largest bilinear weight among its four nearest coarse pixels, background included, so
    that borders run straight instead of in steps.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging._enlarge import enlarge_labels
    >>> enlarge_labels(np.array([[0, 1], [0, 1]], dtype=np.int32), 2, (3, 4)).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    if factor == 1:
        return labels[: shape[0], : shape[1]]
    result = np.empty(shape, dtype=np.int32)
    left, right, right_weight = coarse_neighbours(np.arange(shape[1]), factor, labels.shape[1])
    for start in range(0, shape[0], _STRIP_PX):
        rows = np.arange(start, min(start + _STRIP_PX, shape[0]))
        top, bottom, bottom_weight = coarse_neighbours(rows, factor, labels.shape[0])
        corners = [labels[np.ix_(row, column)] for row in (top, bottom) for column in (left, right)]
        best = corners[0]
        mixed = np.nonzero((corners[0] != corners[1]) | (corners[0] != corners[2]) | (corners[0] != corners[3]))
        candidates = np.stack([corner[mixed] for corner in corners])
        down, along = bottom_weight[mixed[0]], right_weight[mixed[1]]
        weights = np.stack([(1 - down) * (1 - along), (1 - down) * along, down * (1 - along), down * along])
        votes = ((candidates[:, None] == candidates[None, :]) * weights[None, :]).sum(axis=1)
        best[mixed] = np.take_along_axis(candidates, votes.argmax(axis=0)[None, :], axis=0)[0]
        result[rows] = best
    return result


def coarse_neighbours(
    fine: NDArray[np.int64], factor: int, n_coarse: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Coarse pixels on both sides of each fine pixel's centre, and the weight of the second."""
    position = (fine + 0.5) / factor - 0.5
    lower = np.floor(position).astype(np.int64)
    weight = (position - lower).astype(np.float32)
    return np.clip(lower, 0, n_coarse - 1), np.clip(lower + 1, 0, n_coarse - 1), weight
