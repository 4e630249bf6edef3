"""GeoJSON for QuPath: geometry in image pixels, types with colours, measurements."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Affine, Identity, Scale

import sjg
from sjg.core import AmbiguousElementError, InputError, MissingElementError


@pytest.fixture
def sdata():
    """Two cells in micrometres on an image with 0.5-um pixels whose corner lies at (10, 20) um."""
    cells = gpd.GeoDataFrame(
        geometry=[shapely.box(10, 20, 12, 21), shapely.box(14, 24, 15, 25).union(shapely.box(16, 24, 17, 25))], index=[1, 4]
    )
    obs = pd.DataFrame(
        {
            "region": pd.Categorical(["sjg_cells"] * 2),
            "cell_id": [4, 1],
            "cell_type": pd.Categorical(["B", "A"]),
            "area_um2": [2.0, np.nan],
            "n_transcripts": [7, 9],
            "flag": [True, False],
        },
        index=["4", "1"],
    )
    table = TableModel.parse(
        AnnData(np.zeros((2, 1)), obs=obs, uns={"cell_type_colors": ["#ff0000", "#0000ff"]}),
        region="sjg_cells",
        region_key="region",
        instance_key="cell_id",
    )
    matrix = np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]])
    return SpatialData(
        images={
            "dapi": Image2DModel.parse(
                np.zeros((1, 30, 30), np.uint8),
                dims=("c", "y", "x"),
                transformations={"global": Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))},
            )
        },
        shapes={"sjg_boundaries": ShapesModel.parse(cells, transformations={"global": Identity()})},
        tables={"sjg_table": table},
    )


def written(sdata, path, **arguments):
    sjg.io.to_geojson(sdata, path, **arguments)
    return json.loads(path.read_text())


def test_features(sdata, tmp_path):
    collection = written(sdata, tmp_path / "cells.geojson")
    assert collection["type"] == "FeatureCollection"
    first, second = collection["features"]
    assert first["type"] == second["type"] == "Feature"
    assert shapely.geometry.shape(first["geometry"]).equals(shapely.box(0, 0, 4, 2))
    assert second["geometry"]["type"] == "MultiPolygon"
    assert shapely.geometry.shape(second["geometry"]).bounds == (8, 8, 14, 10)
    # matched by id, not by order; what is missing or no number is left out
    assert first["properties"] == {
        "objectType": "cell",
        "name": "1",
        "classification": {"name": "A", "color": [255, 0, 0]},
        "measurements": {"n_transcripts": 9},
    }
    assert second["properties"]["classification"] == {"name": "B", "color": [0, 0, 255]}
    assert second["properties"]["measurements"] == {"area_um2": 2.0, "n_transcripts": 7}


def test_opens_in_geopandas(sdata, tmp_path):
    sjg.io.to_geojson(sdata, tmp_path / "cells.geojson")
    frame = gpd.read_file(tmp_path / "cells.geojson")
    assert frame["name"].tolist() == ["1", "4"]
    assert frame.geometry.is_valid.all()


def test_colours_without_stored_ones_differ(sdata, tmp_path):
    del sdata["sjg_table"].uns["cell_type_colors"]
    colors = [tuple(f["properties"]["classification"]["color"]) for f in written(sdata, tmp_path / "a.geojson")["features"]]
    assert len(set(colors)) == 2
    assert all(0 <= part <= 255 for color in colors for part in color)


def test_without_a_table(sdata, tmp_path):
    del sdata.tables["sjg_table"]
    assert written(sdata, tmp_path / "a.geojson")["features"][0]["properties"] == {"objectType": "cell", "name": "1"}


def test_cell_without_a_row_has_no_type(sdata, tmp_path):
    sdata.tables["sjg_table"] = sdata["sjg_table"][:1].copy()
    first, second = written(sdata, tmp_path / "a.geojson")["features"]
    assert "classification" not in first["properties"]
    assert second["properties"]["classification"]["name"] == "B"


def test_circles_become_polygons(sdata, tmp_path):
    circles = gpd.GeoDataFrame({"radius": [2.0]}, geometry=[shapely.Point(12, 22)])
    sdata["spots"] = ShapesModel.parse(circles, transformations={"global": Identity()})
    geometry = written(sdata, tmp_path / "a.geojson", shapes_key="spots")["features"][0]["geometry"]
    assert shapely.geometry.shape(geometry).area == pytest.approx(np.pi * 16, rel=0.02)


def test_a_file_is_replaced_only_on_request(sdata, tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text("mine")
    with pytest.raises(InputError, match="overwrite=True"):
        sjg.io.to_geojson(sdata, path)
    assert path.read_text() == "mine"
    assert len(written(sdata, path, overwrite=True)["features"]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.geojson"]


def test_bad_arguments_are_named(sdata, tmp_path):
    with pytest.raises(MissingElementError, match="sjg_boundaries"):
        sjg.io.to_geojson(sdata, tmp_path / "a", shapes_key="cells")
    with pytest.raises(MissingElementError, match="sjg_table"):
        sjg.io.to_geojson(sdata, tmp_path / "a", table_key="truth")
    with pytest.raises(InputError, match="no folder"):
        sjg.io.to_geojson(sdata, tmp_path / "none" / "a")
    sdata["second"] = Image2DModel.parse(
        np.zeros((1, 3, 3), np.uint8), dims=("c", "y", "x"), transformations={"global": Scale([1, 1], axes=("x", "y"))}
    )
    with pytest.raises(AmbiguousElementError, match="dapi"):
        sjg.io.to_geojson(sdata, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
