"""Polygons from vertices and broken geometry."""

from __future__ import annotations

import numpy as np
import pandas as pd
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sjg.io._polygons import polygons_from_vertices, valid_polygons


@given(order=st.permutations(range(12)))
def test_rows_of_several_polygons_may_be_mixed(order):
    corners = np.array([[0, 0], [2, 0], [2, 1], [0, 1]], dtype=float)
    table = pd.DataFrame({"id": np.repeat(["a", "b", "c"], 4), "x": np.tile(corners[:, 0], 3), "y": np.tile(corners[:, 1], 3)})
    table.loc[table["id"] == "b", "x"] += 10
    # shuffle which polygon each row belongs to in the file, but keep the order of the vertices within each
    rank = pd.Series(order).groupby(table["id"]).transform(lambda values: np.sort(values))
    mixed = table.iloc[np.argsort(rank.to_numpy())]
    polygons = polygons_from_vertices(mixed, id_column="id", x_column="x", y_column="y").loc[["a", "b", "c"]]
    assert polygons.geometry.area.tolist() == [2, 2, 2]
    assert polygons.geometry.bounds["minx"].tolist() == [0, 10, 0]


def test_too_few_vertices_and_broken_rings():
    table = pd.DataFrame({"id": [1, 1, 2, 2, 2, 2], "x": [0, 1, 0, 2, 0, 2], "y": [0, 1, 0, 2, 2, 0]})
    polygons = polygons_from_vertices(table, id_column="id", x_column="x", y_column="y")
    # the bow tie becomes two triangles
    assert polygons.index.tolist() == [2]
    assert polygons.geometry.iloc[0].geom_type == "MultiPolygon"
    assert polygons.geometry.iloc[0].area == 2


def test_lines_left_by_mending_are_dropped():
    spike = shapely.Polygon([(0, 0), (2, 0), (2, 2), (5, 5), (2, 2), (0, 2)])
    flat = shapely.Polygon([(0, 0), (1, 1), (2, 2)])
    mended = valid_polygons(np.array([spike, flat], dtype=object))
    assert mended[0].geom_type in ("Polygon", "MultiPolygon")
    assert mended[0].area == 4
    assert mended[1].is_empty
    assert shapely.is_valid(mended).all()
