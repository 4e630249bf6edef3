"""Labels of any frame and shape, on the grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjg._logging import logger
from sjg.access._frames import affine_matrix, apply_affine
from sjg.access._raster import iter_blocks, raster_levels
from sjg.core import Grid, InputError, release, scratch_zeros, strips

if TYPE_CHECKING:
    from spatialdata import SpatialData


def read_labels_on_grid(
    sdata: SpatialData, labels_key: str, grid: Grid, *, coordinate_system: str = "global"
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Sample labels at the pixel centres of `grid` and number them from 1.

    Nearest neighbour through the affine maps of both frames, so the labels may have any transformation and shape. A label
    so small that no pixel centre falls on it gets the pixel of its centroid, unless that is the only pixel of another label.

    Parameters
    ----------
    sdata
        The object.
    labels_key
        Key of 2-D integer labels, 0 = background.
    grid
        The working raster.
    coordinate_system
        The coordinate system of `grid`.

    Returns
    -------
    labels
        (height, width) int32, ids 1..n without gaps in the order of the original ids.
    source_ids
        (n,) int64 original id of labels 1..n.

    Raises
    ------
    InputError
        Labels that are not integers, or negative.
    """
    array = raster_levels(sdata.labels[labels_key])[0].transpose("y", "x").data
    if array.dtype.kind not in "iu":
        raise InputError(
            f"labels[{labels_key!r}] holds {array.dtype} values; labels must be integers: write them again with "
            "Labels2DModel.parse(labels.astype('int32'), ...)."
        )
    to_labels = np.asarray(np.linalg.inv(affine_matrix(sdata, labels_key, coordinate_system)) @ grid.matrix, dtype=np.float64)
    to_grid = np.asarray(np.linalg.inv(to_labels), dtype=np.float64)
    wide = array.dtype.itemsize > 4 or array.dtype == np.uint32
    sampled: NDArray[Any] = scratch_zeros(grid.shape, np.int64 if wide else np.int32)
    sums: list[pd.DataFrame] = []
    for top, left, block in iter_blocks(array):
        if left == 0:
            release(sampled)
        rows, columns = np.nonzero(block)
        if rows.size == 0:
            continue
        codes, ids = pd.factorize(block[rows, columns])
        if block.dtype.kind == "i" and ids.min() < 0:
            raise InputError(f"labels[{labels_key!r}] holds negative ids (smallest {ids.min()}); 0 is the background and ids start at 1.")
        sums.append(
            pd.DataFrame(
                {"n": np.bincount(codes), "y": np.bincount(codes, rows + top + 0.5), "x": np.bincount(codes, columns + left + 0.5)},
                index=ids.astype(np.int64),
            )
        )
        _sample_block(sampled, block, top, left, to_labels, to_grid)
    if not sums:
        return scratch_zeros(grid.shape, np.int32), np.empty(0, dtype=np.int64)
    whole = pd.concat(sums).groupby(level=0).sum()
    centroids = apply_affine(to_grid, np.column_stack([whole["x"] / whole["n"], whole["y"] / whole["n"]]))
    place_small(sampled, whole.index.to_numpy(), centroids, name=f"labels[{labels_key!r}]")
    return number_from_one(sampled)


def place_small(labels: NDArray[Any], ids: NDArray[Any], centroids_xy: NDArray[np.float64], *, name: str) -> None:
    """Give each id of `ids` that `labels` lost the pixel of its centroid (x, y), in place, where that deletes no other."""
    height, width = labels.shape
    columns, rows = np.floor(centroids_xy).astype(np.int64).T
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    lost = inside & ~np.isin(ids, _present(labels))
    if not lost.any():
        return
    size: dict[int, int] = {}
    for strip in _strips(labels):
        for own, count in pd.Series(strip[strip != 0]).value_counts().items():
            size[own] = size.get(own, 0) + count
    dropped = 0
    for index in np.flatnonzero(lost):
        pixel = rows[index], columns[index]
        owner = int(labels[pixel])
        if owner:
            if size[owner] == 1:
                dropped += 1
                continue
            size[owner] -= 1
        size[int(ids[index])] = 1
        labels[pixel] = ids[index]
    if dropped:
        logger.warning("%d objects of %s share one grid pixel with another and are left out; use a finer resolution", dropped, name)


def number_from_one(labels: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the non-zero ids of `labels` 1..n in their order; return the labels and the (n,) ids.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.access import number_from_one
    >>> labels, ids = number_from_one(np.array([[0, 7], [900, 7]]))
    >>> labels.tolist(), ids.tolist()
    ([[0, 1], [2, 1]], [7, 900])
    """
    ids = _present(labels)
    if labels.dtype == np.int32 and ids.size and ids[-1] == ids.size:
        return labels, ids
    numbered = scratch_zeros(labels.shape, np.int32)
    # a table of new ids is fastest; ids that are few and far between are searched instead
    table = None
    if ids.size and ids[-1] <= max(labels.size, 2**20):
        table = np.zeros(int(ids[-1]) + 1, dtype=np.int32)
        table[ids] = np.arange(1, ids.size + 1, dtype=np.int32)
    for rows in strips(labels.shape):
        strip = labels[rows]
        numbered[rows] = table[strip] if table is not None else np.where(strip != 0, np.searchsorted(ids, strip) + 1, 0)
        release(numbered, labels)
    return numbered, ids


def _present(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The non-zero ids, sorted."""
    # hashing is much faster here than the sort of numpy.unique
    found = [pd.unique(strip.ravel()) for strip in _strips(labels)]
    ids = np.unique(np.concatenate(found)).astype(np.int64) if found else np.empty(0, dtype=np.int64)
    return ids[ids != 0]


def _strips(labels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for rows in strips(labels.shape):
        yield labels[rows]
        release(labels)


def _sample_block(
    sampled: NDArray[Any], block: NDArray[Any], top: int, left: int, to_labels: NDArray[np.float64], to_grid: NDArray[np.float64]
) -> None:
    """Write the grid pixels whose centre falls in `block`."""
    bottom, right = top + block.shape[0], left + block.shape[1]
    corners = apply_affine(to_grid, np.array([[left, top], [right, top], [left, bottom], [right, bottom]]))
    x_start, y_start = np.maximum(np.floor(corners.min(axis=0)).astype(np.int64) - 1, 0)
    x_stop, y_stop = np.minimum(np.ceil(corners.max(axis=0)).astype(np.int64) + 1, sampled.shape[::-1])
    if x_stop <= x_start or y_stop <= y_start:
        return
    x = np.arange(x_start, x_stop)[None, :] + 0.5
    y = np.arange(y_start, y_stop)[:, None] + 0.5
    # a term of the affine that is zero is left out, so that aligned frames need no two-dimensional index
    source_x = _linear(to_labels[0], x, y) - left
    source_y = _linear(to_labels[1], x, y) - top
    column, row = np.floor(source_x).astype(np.int64), np.floor(source_y).astype(np.int64)
    fits = (row >= 0) & (row < block.shape[0]) & (column >= 0) & (column < block.shape[1])
    window = sampled[y_start:y_stop, x_start:x_stop]
    values = block[np.clip(row, 0, block.shape[0] - 1), np.clip(column, 0, block.shape[1] - 1)]
    np.copyto(window, values.astype(sampled.dtype, copy=False), where=fits)


def _linear(coefficients: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    along_x, along_y, shift = coefficients
    small = 1e-12 * max(abs(along_x), abs(along_y))
    result: NDArray[np.float64] = np.full((1, 1), shift)
    if abs(along_x) > small:
        result = result + along_x * x
    if abs(along_y) > small:
        result = result + along_y * y
    return result
