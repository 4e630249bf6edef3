"""Basins of a landscape that are deep enough to count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sjg.imaging._flood import flood


def deep_basins(landscape: NDArray[np.float32], mask: NDArray[np.bool_], min_depth: float) -> NDArray[np.int32]:
    """Watershed of the hills of a landscape, hills joined where the saddle between them is shallow.

    Every local maximum is a hill at first. Saddles are visited from the highest down; two hills become one where the lower of
    their peaks is less than `min_depth` above the saddle. These are the hills of the h-maxima transform, found without a
    reconstruction of the whole image.

    Parameters
    ----------
    landscape
        Heights (y, x), or (z, y, x).
    mask
        Where there is land, of the same shape.
    min_depth
        Height by which a separate hill rises above its saddles.

    Returns
    -------
    int32 labels 1..n of the same shape, 0 outside `mask`.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging._basins import deep_basins
    >>> heights = np.array([[5, 1, 4, 3.8, 4.1]], dtype=np.float32)
    >>> deep_basins(heights, np.ones((1, 5), dtype=bool), 1.0).tolist()
    [[1, 1, 2, 2, 2]]
    """
    sea = np.float32(landscape[mask].min() - 1) if mask.any() else np.float32(0)
    heights = np.where(mask, landscape, sea)
    tops = (heights == ndimage.maximum_filter(heights, size=3)) & mask
    seeds, n_hills = ndimage.label(tops, structure=np.ones((3,) * landscape.ndim))
    hills = flood(-heights, seeds, mask=mask)
    if n_hills < 2:
        return hills
    peak = np.zeros(n_hills + 1)
    peak[seeds[tops]] = heights[tops]
    parent = _join(peak, *_saddles(hills, heights), min_depth)
    _, numbered = np.unique(parent, return_inverse=True)
    joined: NDArray[np.int32] = numbered.astype(np.int32)[hills]
    return joined


def _saddles(hills: NDArray[np.int32], heights: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(E, 2) neighbouring hills and the (E,) height of the highest pass between them, the highest first."""
    pairs, passes = [], []
    for axis in reversed(range(hills.ndim)):
        first = (slice(None),) * axis + (slice(None, -1),)
        second = (slice(None),) * axis + (slice(1, None),)
        one, other = hills[first], hills[second]
        touch = (one != other) & (one > 0) & (other > 0)
        pairs.append(np.sort(np.column_stack([one[touch], other[touch]]).astype(np.int64), axis=1))
        passes.append(np.minimum(heights[first][touch], heights[second][touch]))
    edges, height = np.concatenate(pairs), np.concatenate(passes)
    # ties between passes are settled by the ids, so the order is the same on every machine
    order = np.lexsort((edges[:, 1], edges[:, 0], -height))
    edges, height = edges[order], height[order]
    _, first_seen = np.unique(edges[:, 0] * (int(hills.max()) + 1) + edges[:, 1], return_index=True)
    keep = np.sort(first_seen)
    return edges[keep], height[keep]


def _join(peak: NDArray[np.float64], edges: NDArray[np.int64], height: NDArray[np.float32], min_depth: float) -> NDArray[np.int64]:
    """(n + 1,) representative of each hill; the higher peak stands for two joined hills."""
    parent = list(range(len(peak)))

    def root(hill: int) -> int:
        while parent[hill] != hill:
            parent[hill] = parent[parent[hill]]
            hill = parent[hill]
        return hill

    for (one, other), saddle in zip(edges.tolist(), height.tolist(), strict=True):
        high, low = root(one), root(other)
        if high == low:
            continue
        if peak[high] < peak[low]:
            high, low = low, high
        if peak[low] - saddle < min_depth:
            parent[low] = high
    return np.array([root(hill) for hill in range(len(peak))], dtype=np.int64)
