from __future__ import annotations

import numpy as np
import pytest
from spatialdata.models import Labels2DModel
from spatialdata.transformations import Affine, Scale

from sjg.access import labels_table, molecules_in_labels
from sjg.core import InputError


def test_counts_in_labels_keep_their_own_ids(make_sdata):
    sdata = make_sdata()
    counted = molecules_in_labels(sdata, "nuclei", "transcripts")
    assert counted.grid.pixel_size_um == pytest.approx(0.5)
    assert counted.source_ids.tolist() == [3, 10, 11, 500]
    table = labels_table(counted, region="nuclei")
    frame = sdata["transcripts"].compute()
    labels = sdata["nuclei"].to_numpy()
    inside = labels[(frame["y"] * 2).astype(int), (frame["x"] * 2).astype(int)]
    expected = {label: (inside == label).sum() for label in (3, 10, 11, 500)}
    assert dict(zip(table.obs["cell_id"], table.obs["n_transcripts"], strict=True)) == expected
    assert table.obs["area_um2"].tolist() == [36.0] * 4
    gene = frame["gene"].astype(str).to_numpy()
    assert table["11", "C"].X.sum() == ((inside == 11) & (gene == "C")).sum()
    # nuclei are squares of 12 pixels: their centres in um
    np.testing.assert_allclose(table.obsm["spatial"], [[6, 6], [23, 6], [38, 23], [13, 38]])


def test_labels_of_another_frame(make_sdata):
    sdata = make_sdata()
    expected = molecules_in_labels(sdata, "nuclei", "transcripts").cell
    turned = np.rot90(sdata["nuclei"].to_numpy()).copy()
    # rot90 takes column c of n to row n - 1 - c
    back = Affine(np.array([[0, -0.5, 60], [0.5, 0, 0], [0, 0, 1]]), input_axes=("x", "y"), output_axes=("x", "y"))
    sdata.labels["turned"] = Labels2DModel.parse(turned, dims=("y", "x"), transformations={"global": back})
    np.testing.assert_array_equal(molecules_in_labels(sdata, "turned", "transcripts").cell, expected)


def test_area_without_a_pixel_size(make_sdata):
    sdata = make_sdata()
    for key in ("dapi", "nuclei", "transcripts"):
        sdata[key].attrs["transform"] = {"global": Scale([1.0, 1.0], axes=("x", "y"))}
    counted = molecules_in_labels(sdata, "nuclei", "transcripts")
    assert labels_table(counted, region="nuclei").obs["area_px2"].tolist() == [144.0] * 4
    given = molecules_in_labels(sdata, "nuclei", "transcripts", pixel_size_um=2.0)
    assert labels_table(given, region="nuclei").obs["area_um2"].tolist() == [576.0] * 4


def test_no_label(make_sdata):
    sdata = make_sdata()
    sdata.labels["empty"] = Labels2DModel.parse(np.zeros((90, 120), dtype=int), dims=("y", "x"))
    with pytest.raises(InputError, match=r"labels\['empty'\] has no label"):
        molecules_in_labels(sdata, "empty", "transcripts")
