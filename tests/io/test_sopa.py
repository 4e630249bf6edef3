"""What sopa reads: its own fields as the docs give them, and the Explorer folder cell by cell."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
import tifffile
import zarr
from scipy.sparse import csc_matrix
from shapely.geometry import Polygon
from zarr.storage import ZipStore

import sjg

sopa = pytest.importorskip("sopa", reason="sopa is not installed (extra 'explorer')")
from sopa.constants import SopaAttrs, SopaKeys  # noqa: E402

EXPORTS = Path(__file__).parents[2] / "docs" / "exports.md"


@pytest.fixture(scope="module")
def sdata() -> sd.SpatialData:
    """The true cells of a tissue under the names that a run writes."""
    sdata = sjg.datasets.simulated_tissue(size_um=(50, 60), n_genes=12, n_cell_types=3, transcripts_per_cell=30)
    polygons = sd.to_polygons(sdata["cells"])
    polygons.index = polygons["label"].astype(int).to_numpy()
    sdata["sjg_boundaries"] = polygons
    sjg.tl.aggregate(sdata, "cells", key_added="sjg_table")
    return sdata


def test_the_fields_that_the_docs_give_are_those_that_sopa_reads(sdata):
    copy = sd.SpatialData()
    for key in ("dapi", "transcripts", "sjg_boundaries"):
        copy[key] = sdata[key]
    copy.tables["sjg_table"] = sdata["sjg_table"].copy()
    (code,) = re.findall(r"## sopa\n.*?```python\n(.*?)```", EXPORTS.read_text(), flags=re.DOTALL)
    exec(code, {"sdata": copy})
    key, shapes = sopa.utils.get_boundaries(copy, return_key=True)
    assert key == "sjg_boundaries"
    assert list(shapes.index) == list(copy["table"].obs["cell_id"])
    assert copy.attrs[SopaAttrs.TRANSCRIPTS] in copy.points
    assert set(copy["table"].uns[SopaKeys.UNS_KEY]) == {SopaKeys.UNS_HAS_TRANSCRIPTS, SopaKeys.UNS_HAS_INTENSITIES}
    assert {SopaKeys.REGION_KEY, SopaKeys.SLIDE_KEY, SopaKeys.INSTANCE_KEY, SopaKeys.PASSES_FILTERING} <= set(copy["table"].obs)


def test_explorer_folder_holds_every_cell_polygon_and_count(sdata, tmp_path):
    folder = tmp_path / "section.explorer"
    sjg.io.write_explorer(sdata, folder)
    table = sdata["sjg_table"]
    cells = zarr.open_group(ZipStore(folder / "cells.zarr.zip", mode="r"), mode="r")
    assert cells.attrs["number_cells"] == table.n_obs
    # outlines in micrometres, padded by their last vertex; the table's cells in its order
    vertices = cells["polygon_vertices"][1].reshape(table.n_obs, -1, 2)
    for i in (0, 5, table.n_obs - 1):
        true = sd.transform(sdata["sjg_boundaries"].loc[[table.obs["cell_id"].iloc[i]]], to_coordinate_system="global").geometry.iloc[0]
        found = Polygon(pd.DataFrame(vertices[i]).drop_duplicates().to_numpy())
        assert found.intersection(true).area / found.union(true).area > 0.9
    matrix = zarr.open_group(ZipStore(folder / "cell_feature_matrix.zarr.zip", mode="r"), mode="r")["cell_features"]
    counts = csc_matrix((matrix["data"][:], matrix["indices"][:], matrix["indptr"][:]), shape=(table.n_obs, table.n_vars + 1))
    assert matrix.attrs["feature_keys"][:-1] == list(table.var_names)
    np.testing.assert_array_equal(counts[:, :-1].toarray(), table.X.toarray())
    with tifffile.TiffFile(folder / "morphology.ome.tif") as image:
        assert image.series[0].shape[-2:] == sdata["dapi"].shape[-2:]
