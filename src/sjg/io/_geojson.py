"""Cells as GeoJSON for QuPath."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from sjg.core import InputError, MissingElementError
from sjg.core.colors import distinct_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from geopandas import GeoDataFrame
    from pandas import DataFrame
    from spatialdata import SpatialData


def to_geojson(
    sdata: SpatialData,
    path: str | os.PathLike[str],
    shapes_key: str = "sjg_boundaries",
    *,
    table_key: str | None = None,
    cell_type_key: str = "cell_type",
    image_key: str | None = None,
    coordinate_system: str = "global",
    overwrite: bool = False,
) -> None:
    """Write cells as a GeoJSON file that QuPath opens on the image.

    A ``FeatureCollection`` with a feature per cell: ``objectType`` ``cell``, the id as ``name``, the cell type as ``classification`` with
    its colour, the numeric columns of the table as ``measurements``, coordinates in full-resolution pixels of the image.

    Parameters
    ----------
    sdata
        The object.
    path
        The file to write.
    shapes_key
        Shapes element with the cells.
    table_key
        Table with the cells' types and measurements, matched by its instance key to the index of the shapes. By default the table
        of the same run (``sjg_table`` for ``sjg_boundaries``), else one that annotates the shapes, else none.
    cell_type_key
        Column of the table that becomes the classification, where the table has it.
    image_key
        Image whose pixels the coordinates count; by default the only image. Of an object without images, coordinates are those of
        `coordinate_system`.
    coordinate_system
        Coordinate system that shapes and image share.
    overwrite
        Replace an existing file.

    Raises
    ------
    MissingElementError
        There is no such element or table.
    InputError
        The file exists, several images and none chosen, or shapes and image share no coordinate system.

    Examples
    --------
    >>> import sjg
    >>> sjg.io.to_geojson(sdata, "cells.geojson")  # doctest: +SKIP
    """
    from sjg.io._paths import new_file

    if shapes_key not in sdata.shapes:
        raise MissingElementError(f"shapes_key={shapes_key!r} is not in sdata.shapes, which has: {', '.join(sdata.shapes) or 'none'}.")
    shapes = _in_pixels(sdata, shapes_key, image_key, coordinate_system)
    table = _table_of(sdata, shapes_key, table_key)
    rows = _rows_of(table, shapes)
    colors = {} if table is None or cell_type_key not in table.obs else _colors(table, cell_type_key)
    with new_file(path, overwrite=overwrite) as file, file.open("w", encoding="utf-8") as out:
        # one line per cell: a section with a million cells does not have to fit in memory as text
        out.write('{"type": "FeatureCollection", "features": [\n')
        for i, (cell, geometry) in enumerate(zip(shapes.index, shapes.geometry, strict=True)):
            properties: dict[str, Any] = {"objectType": "cell", "name": str(cell)}
            if rows is not None:
                properties |= _annotation(rows.iloc[i], cell_type_key, colors)
            feature = {"type": "Feature", "geometry": geometry.__geo_interface__, "properties": properties}
            out.write((",\n" if i else "") + json.dumps(feature, allow_nan=False))
        out.write("\n]}\n")


def _in_pixels(sdata: SpatialData, shapes_key: str, image_key: str | None, coordinate_system: str) -> GeoDataFrame:
    """Polygons in pixels of the image, rounded to a hundredth."""
    import shapely

    from sjg.access import affine_matrix, apply_affine, choose_image

    matrix = affine_matrix(sdata, shapes_key, coordinate_system)
    if image_key is not None or len(sdata.images) > 0:
        matrix = np.linalg.inv(affine_matrix(sdata, choose_image(sdata, image_key), coordinate_system)) @ matrix
    shapes = sdata.shapes[shapes_key]
    geometry = shapes.geometry.to_numpy()
    if "radius" in shapes:
        geometry = shapely.buffer(geometry, shapes["radius"].to_numpy())
    pixels = shapely.transform(geometry, lambda xy: np.round(apply_affine(matrix, xy), 2))
    return shapes.set_geometry(pixels)


def _table_of(sdata: SpatialData, shapes_key: str, table_key: str | None) -> AnnData | None:
    if table_key is not None:
        if table_key not in sdata.tables:
            raise MissingElementError(f"table_key={table_key!r} is not in sdata.tables, which has: {', '.join(sdata.tables) or 'none'}.")
        return sdata.tables[table_key]
    same_run = shapes_key.removesuffix("_boundaries") + "_table"
    if shapes_key.endswith("_boundaries") and same_run in sdata.tables:
        return sdata.tables[same_run]
    for table in sdata.tables.values():
        region = table.uns.get("spatialdata_attrs", {}).get("region")
        if shapes_key == region or (isinstance(region, list | tuple) and shapes_key in region):
            return table
    return None


def _rows_of(table: AnnData | None, shapes: GeoDataFrame) -> DataFrame | None:
    """Rows of the table in the order of the shapes; missing values for a cell without a row."""
    if table is None:
        return None
    attrs = table.uns.get("spatialdata_attrs", {})
    instance_key = attrs.get("instance_key")
    if instance_key not in table.obs:
        raise InputError("The table annotates no element, so its rows cannot be matched to cells: parse it with TableModel.parse(...).")
    rows = table.obs.set_index(instance_key)
    if rows.index.has_duplicates:
        raise InputError(f"The table has several rows for one {instance_key!r}: choose a table of one region.")
    matched = rows.reindex(shapes.index)
    if len(shapes) and not shapes.index.isin(rows.index).any():
        raise InputError(f"No {instance_key!r} of the table is in the index of the shapes: choose the table of the same cells.")
    return matched.drop(columns=[attrs["region_key"]], errors="ignore")


def _colors(table: AnnData, column: str) -> dict[str, tuple[int, int, int]]:
    """A colour (red, green, blue) per type: those of ``uns["<column>_colors"]`` where the table has them, else the palette of the plots."""
    names = [str(name) for name in table.obs[column].astype("category").cat.categories]
    stored = table.uns.get(f"{column}_colors")
    if stored is None or len(stored) < len(names):
        stored = distinct_colors(len(names))
    values = stored.values() if isinstance(stored, dict) else stored
    return {name: _rgb(str(value)) for name, value in zip(stored if isinstance(stored, dict) else names, values, strict=False)}


def _rgb(color: str) -> tuple[int, int, int]:
    from matplotlib.colors import to_rgb

    red, green, blue = (round(255 * part) for part in to_rgb(color))
    return red, green, blue


def _annotation(row: Any, cell_type_key: str, colors: dict[str, tuple[int, int, int]]) -> dict[str, Any]:
    """Classification and measurements of one cell; missing values are left out."""
    annotation: dict[str, Any] = {}
    name = row.get(cell_type_key)
    if isinstance(name, str):
        annotation["classification"] = {"name": name, "color": list(colors.get(name, (128, 128, 128)))}
    measurements = {
        str(key): value.item() if hasattr(value, "item") else value
        for key, value in row.items()
        if isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_) and np.isfinite(value)
    }
    if measurements:
        annotation["measurements"] = measurements
    return annotation
