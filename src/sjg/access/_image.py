"""The nuclear image on the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sjg.access._choose import choose_channel
from sjg.access._frames import affine_matrix
from sjg.access._raster import iter_blocks, raster_levels
from sjg.core import Grid, InputError, release, scratch_zeros, strips

if TYPE_CHECKING:
    from spatialdata import SpatialData
    from xarray import DataArray


def read_image(
    sdata: SpatialData, image_key: str, grid: Grid, *, channel: str | int | None = None, coordinate_system: str = "global"
) -> NDArray[np.float32]:
    """One channel of an image, averaged over the pixels of `grid`.

    Each grid pixel is the mean of the image over its area (weighted by overlap, so any factor, also a fractional one, conserves
    intensity). Of a multiscale image the coarsest level is read whose pixels divide those of the grid or are at most half as
    wide; chunks are computed one at a time.

    Parameters
    ----------
    sdata
        The object.
    image_key
        Key of the image, the one from which :func:`working_grid` made `grid`.
    grid
        The working raster.
    channel
        Name or index, see :func:`choose_channel`.
    coordinate_system
        The coordinate system of `grid`.

    Returns
    -------
    (height, width) float32.

    Raises
    ------
    InputError
        No such channel; the grid is rotated against the image; an image that is empty, constant or nowhere finite.
    """
    index = choose_channel(sdata, image_key, channel)
    plane, extent = read_plane(sdata, image_key, grid, index, coordinate_system=coordinate_system)
    if extent is None:
        raise InputError(f"images[{image_key!r}] has no finite pixel in channel {index}; choose another channel or image.")
    low, high = extent
    if low == high:
        raise InputError(
            f"images[{image_key!r}] is constant (every pixel {low:g}) in channel {index}: no nuclei can be seen; choose another with channel="
            " or image_key=."
        )
    return plane


def read_plane(
    sdata: SpatialData, image_key: str, grid: Grid, index: int, *, coordinate_system: str = "global"
) -> tuple[NDArray[np.float32], tuple[float, float] | None]:
    """(height, width) channel `index` of an image on the grid, as :func:`read_image`, and its lowest and highest value, None if it has none."""
    levels = raster_levels(sdata.images[image_key])
    to_image = np.linalg.inv(affine_matrix(sdata, image_key, coordinate_system)) @ grid.matrix
    factors = np.diag(to_image)[:2]
    if not np.allclose(to_image, np.diag([factors[0], factors[1], 1.0]), atol=1e-6) or min(factors) <= 0:
        raise InputError(f"The grid is not aligned with images[{image_key!r}]; make it with working_grid from that image.")
    level = _coarsest_level(levels, factors[1], factors[0])
    plane = level.isel(c=index) if "c" in level.dims else level
    height, width = levels[0].shape[-2:]
    rows = _overlap(plane.shape[0], grid.shape[0], factors[1] * plane.shape[0] / height)
    columns = _overlap(plane.shape[1], grid.shape[1], factors[0] * plane.shape[1] / width)
    total = scratch_zeros(grid.shape, np.float32)
    missing = 0
    for top, left, block in iter_blocks(plane.transpose("y", "x").data):
        values = block.astype(np.float32, copy=False)
        holes = ~np.isfinite(values) if np.issubdtype(block.dtype, np.floating) else None
        if holes is not None and holes.any():
            values = np.where(holes, np.float32(0), values)
            missing += int(holes.sum())
        if left == 0:
            release(total)
        _add_block(total, rows[:, top : top + block.shape[0]], columns[:, left : left + block.shape[1]], values)
    extent = _divide(total, np.asarray(rows.sum(axis=1)), np.asarray(columns.sum(axis=1)))
    return total, extent if missing < plane.size else None


def _divide(total: NDArray[np.float32], weight_y: NDArray[np.float32], weight_x: NDArray[np.float32]) -> tuple[float, float]:
    """Divide by the outer product of the weights, in place and by strips; returns the lowest and highest value."""
    low, high = np.inf, -np.inf
    for rows in strips(total.shape):
        strip = total[rows]
        strip /= np.maximum(weight_y[rows, None] * weight_x[None, :], np.finfo(np.float32).tiny)
        low, high = min(low, float(strip.min())), max(high, float(strip.max()))
        release(total)
    return low, high


def _coarsest_level(levels: list[DataArray], factor_y: float, factor_x: float) -> DataArray:
    """The coarsest level that loses nothing: its pixels divide grid pixels, or are at most half as wide."""
    chosen = levels[0]
    height, width = levels[0].shape[-2:]
    for level in levels[1:]:
        ratios = factor_y * level.shape[-2] / height, factor_x * level.shape[-1] / width
        if all(ratio >= 1.99 or abs(ratio - 1) < 0.01 for ratio in ratios):
            chosen = level
    return chosen


def _overlap(n_source: int, n_target: int, factor: float) -> csr_array:
    """(n_target, n_source) length of the overlap of target pixel ``[i f, (i + 1) f)`` with source pixel ``[j, j + 1)``."""
    edges = np.unique(np.concatenate([np.arange(n_source + 1.0), np.minimum(np.arange(n_target + 1.0) * factor, n_source)]))
    lengths = np.diff(edges)
    keep = lengths > 1e-6
    middle = ((edges[:-1] + edges[1:]) / 2)[keep]
    target = np.minimum((middle / factor).astype(np.int64), n_target - 1)
    return csr_array((lengths[keep].astype(np.float32), (target, middle.astype(np.int64))), shape=(n_target, n_source))


def _add_block(total: NDArray[np.float32], rows: csr_array, columns: csr_array, block: NDArray[np.float32]) -> None:
    """Add the part of `block` that each grid pixel covers, in place."""
    row_slice, column_slice = _touched(rows), _touched(columns)
    across = (columns[column_slice] @ block.T).T
    total[row_slice, column_slice] += rows[row_slice] @ across


def _touched(weights: csr_array) -> slice:
    used = np.flatnonzero(np.diff(weights.indptr))
    return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)
