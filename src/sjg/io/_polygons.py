"""Polygons from what platforms store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from pandas import DataFrame, Series


def decoded(values: Series) -> Series:
    """Text of a column that may hold bytes."""
    return values.map(lambda value: value.decode() if isinstance(value, bytes) else str(value))


def polygons_from_vertices(vertices: DataFrame, *, id_column: str, x_column: str, y_column: str) -> GeoDataFrame:
    """One valid polygon per id from a table with a row per vertex, in the order of the rows; fewer than 3 vertices make none."""
    from geopandas import GeoDataFrame

    # the vertices of an id need not be neighbours in the file: a stable sort keeps their own order
    code, ids = vertices[id_column].factorize()
    order = np.argsort(code, kind="stable")
    size = np.bincount(code, minlength=len(ids))
    keep = size >= 3
    xy = vertices[[x_column, y_column]].to_numpy(dtype=np.float64)[order]
    ring = np.repeat(np.cumsum(keep) - 1, size)
    in_ring = np.repeat(keep, size)
    rings = shapely.linearrings(xy[in_ring], indices=ring[in_ring])
    frame = GeoDataFrame(geometry=valid_polygons(shapely.polygons(rings)), index=ids[keep])
    return frame[~frame.geometry.is_empty]


def valid_polygons(geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """Valid polygons or multipolygons; lines and points that mending leaves behind are dropped."""
    mended = shapely.make_valid(geometry)
    collection = shapely.get_type_id(mended) == shapely.GeometryType.GEOMETRYCOLLECTION
    for index in np.flatnonzero(collection):
        parts = [part for part in mended[index].geoms if part.geom_type in ("Polygon", "MultiPolygon")]
        mended[index] = shapely.union_all(parts)
    polygonal = np.isin(shapely.get_type_id(mended), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    mended[~polygonal] = shapely.Polygon()
    return mended
