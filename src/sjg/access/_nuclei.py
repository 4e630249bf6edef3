"""Nuclei, as labels or as shapes, on the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sjg._logging import logger
from sjg.access._frames import affine_matrix, apply_affine
from sjg.access._labels import number_from_one, place_small, read_labels_on_grid
from sjg.core import Grid, InputError, scratch_zeros

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: only shapes smaller than this can slip between the pixel centres
_SMALL_PX2 = 2.0


def read_nuclei(
    sdata: SpatialData, nuclei_key: str, grid: Grid, *, coordinate_system: str = "global"
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """The nuclei on the grid: :func:`read_labels_on_grid` or :func:`rasterize_shapes`, whichever `nuclei_key` names.

    Returns
    -------
    labels
        (height, width) int32, ids 1..n without gaps.
    source_ids
        (n,) id of each in the element: integers of labels, index values of shapes.

    Raises
    ------
    InputError
        The element cannot be read, or no nucleus lies on the grid.
    """
    if nuclei_key in sdata.labels:
        labels, ids = read_labels_on_grid(sdata, nuclei_key, grid, coordinate_system=coordinate_system)
        source_ids: NDArray[Any] = ids
    else:
        labels, source_ids = rasterize_shapes(sdata, nuclei_key, grid, coordinate_system=coordinate_system)
    if len(source_ids) == 0:
        raise InputError(
            f"{nuclei_key!r} has no nucleus on the image; check its transformation to {coordinate_system!r}, or leave nuclei_key out to have "
            "nuclei segmented."
        )
    return labels, source_ids


def rasterize_shapes(
    sdata: SpatialData, shapes_key: str, grid: Grid, *, coordinate_system: str = "global"
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Draw polygons or circles on the grid and number them from 1.

    A pixel belongs to the shape that contains its centre. Where shapes overlap the one that comes first in the element keeps
    the pixel; one that others cover wholly is left out. A shape so small that it contains no pixel centre gets the pixel of its
    centroid.

    Parameters
    ----------
    sdata
        The object.
    shapes_key
        Key of the shapes: polygons, multipolygons, or points with a ``radius`` column (drawn as polygons of 32 corners).
    grid
        The working raster.
    coordinate_system
        The coordinate system of `grid`.

    Returns
    -------
    labels
        (height, width) int32, ids 1..n without gaps in the order of the element.
    source_ids
        (n,) index values of the shapes 1..n.

    Raises
    ------
    InputError
        No invertible affine transformation to `coordinate_system`.
    """
    from rasterio.features import rasterize

    element = sdata.shapes[shapes_key]
    geometries = element.geometry.to_numpy()
    if "radius" in element:
        geometries = shapely.buffer(geometries, element["radius"].to_numpy(), quad_segs=8)
    usable = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if not usable.all():
        logger.warning("%d empty shapes of shapes[%r] are left out", int((~usable).sum()), shapes_key)
    position = np.flatnonzero(usable)
    to_grid = np.linalg.inv(grid.matrix) @ affine_matrix(sdata, shapes_key, coordinate_system)
    drawn = shapely.transform(shapely.force_2d(geometries[position]), lambda xy: apply_affine(to_grid, xy))
    invalid = ~shapely.is_valid(drawn)
    drawn[invalid] = shapely.make_valid(drawn[invalid])
    height, width = grid.shape
    on_grid = shapely.intersects(drawn, shapely.box(0, 0, width, height))
    position, drawn = position[on_grid], drawn[on_grid]
    labels = scratch_zeros(grid.shape, np.int32)
    if position.size == 0:
        return labels, np.asarray(element.index)[:0]
    ids = np.arange(1, position.size + 1)
    # the last shape drawn wins a pixel, so they are drawn from the last to the first
    rasterize(zip(drawn[::-1], ids[::-1].tolist(), strict=True), out=labels)
    small = shapely.area(drawn) < _SMALL_PX2
    place_small(labels, ids[small], shapely.get_coordinates(shapely.centroid(drawn[small])), name=f"shapes[{shapes_key!r}]")
    labels, kept = number_from_one(labels)
    hidden = int(np.isin(ids[~small], kept, invert=True).sum())
    if hidden:
        logger.warning("%d shapes of shapes[%r] have no pixel of their own (others cover them) and are left out", hidden, shapes_key)
    return labels, np.asarray(element.index)[position[kept - 1]]
