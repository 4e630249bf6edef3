"""CSV, h5ad and Explorer output on simulated tissue."""

from __future__ import annotations

import importlib.util
import json
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd

import sjg
from sjg.core import DependencyError, InputError, MissingElementError


@pytest.fixture(scope="module")
def sdata():
    sdata = sjg.datasets.simulated_tissue(size_um=(50, 60), n_genes=12, n_cell_types=3, transcripts_per_cell=30)
    polygons = sd.to_polygons(sdata["cells"])
    polygons.index = polygons["label"].astype(int).to_numpy()
    sdata["outlines"] = polygons
    return sdata


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_transcripts_over_several_partitions(sdata, tmp_path, name):
    whole = sdata["transcripts"].compute()
    points = sd.models.PointsModel.parse(
        whole,
        coordinates={"x": "x", "y": "y"},
        feature_key="gene",
        npartitions=3,
        transformations={"global": sd.transformations.Identity()},
    )
    assert points.npartitions == 3
    copy = sd.SpatialData(points={"transcripts": points})
    sjg.io.write_transcripts_csv(copy, tmp_path / name, columns=["gene", "x", "true_cell"])
    read = pd.read_csv(tmp_path / name)
    assert list(read) == ["gene", "x", "true_cell"]
    np.testing.assert_allclose(read["x"], whole["x"])
    assert read["gene"].tolist() == whole["gene"].astype(str).tolist()


def test_bad_columns_and_files(sdata, tmp_path):
    with pytest.raises(InputError, match="no column sjg_cell_id"):
        sjg.io.write_transcripts_csv(sdata, tmp_path / "t.csv", columns=["sjg_cell_id"])
    with pytest.raises(InputError, match="folder"):
        sjg.io.write_transcripts_csv(sdata, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_h5ad(sdata, tmp_path):
    sjg.io.write_h5ad(sdata, tmp_path / "truth.h5ad", "truth")
    read = ad.read_h5ad(tmp_path / "truth.h5ad")
    np.testing.assert_array_equal(read.X.toarray(), sdata["truth"].X.toarray())
    pd.testing.assert_frame_equal(read.obs, sdata["truth"].obs)
    with pytest.raises(InputError, match="overwrite=True"):
        sjg.io.write_h5ad(sdata, tmp_path / "truth.h5ad", "truth")
    with pytest.raises(MissingElementError, match="truth"):
        sjg.io.write_h5ad(sdata, tmp_path / "other.h5ad")


def test_explorer(sdata, tmp_path):
    if importlib.util.find_spec("sopa") is None:
        pytest.skip("sopa is not installed (extra 'explorer')")
    before = dict(sdata["truth"].uns["spatialdata_attrs"])
    sjg.io.write_explorer(sdata, tmp_path / "x.explorer", shapes_key="outlines", table_key="truth")
    assert [file.name for file in tmp_path.iterdir()] == ["x.explorer"]
    files = {file.name for file in (tmp_path / "x.explorer").iterdir()}
    assert {"experiment.xenium", "cells.zarr.zip", "transcripts.zarr.zip", "morphology.ome.tif", "cell_feature_matrix.zarr.zip"} <= files
    metadata = json.loads((tmp_path / "x.explorer" / "experiment.xenium").read_text())
    assert metadata["num_cells"] == len(sdata["truth"])
    assert metadata["pixel_size"] == pytest.approx(0.5)
    assert sdata["truth"].uns["spatialdata_attrs"] == before
    with pytest.raises(InputError, match="overwrite=True"):
        sjg.io.write_explorer(sdata, tmp_path / "x.explorer", shapes_key="outlines", table_key="truth")


def test_explorer_says_what_is_missing(sdata, tmp_path, monkeypatch):
    with pytest.raises(MissingElementError, match="outlines"):
        sjg.io.write_explorer(sdata, tmp_path / "x", table_key="truth")
    monkeypatch.setitem(sys.modules, "sopa.io.explorer", None)
    with pytest.raises(DependencyError, match="pip install"):
        sjg.io.write_explorer(sdata, tmp_path / "x", shapes_key="outlines", table_key="truth")
    assert list(tmp_path.iterdir()) == []


def test_explorer_needs_a_pixel_size(sdata, tmp_path):
    pixels = sd.SpatialData.init_from_elements({name: sdata[name] for name in ("dapi", "transcripts", "outlines", "truth")})
    sd.transformations.set_transformation(pixels["transcripts"], sd.transformations.Scale([0.5, 0.5], axes=("x", "y")))
    try:
        with pytest.raises(InputError, match="pixel_size_um"):
            sjg.io.write_explorer(pixels, tmp_path / "x", shapes_key="outlines", table_key="truth")
    finally:
        sd.transformations.set_transformation(pixels["transcripts"], sd.transformations.Identity())
