from __future__ import annotations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import issparse
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Labels2DModel, PointsModel, TableModel, get_table_keys
from spatialdata.transformations import Affine, Identity, Scale, get_transformation

from sjg.core import AmbiguousElementError, ExistingElementError, InputError, MissingElementError
from sjg.tl import aggregate, assign_transcripts

PIXEL_UM = 0.5
GENES = ["A", "B", "BLANK-1", "C"]


def cells():
    """(40, 60) labels with gaps in the ids."""
    labels = np.zeros((40, 60), dtype=np.int32)
    labels[5:15, 5:20] = 7
    labels[5:15, 20:30] = 3
    labels[25:35, 40:55] = 120
    return labels


def transcripts(n=600, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.uniform(0, 60, n), "y": rng.uniform(0, 40, n), "gene": rng.choice(GENES, n)})
    frame["vendor"] = np.arange(n)
    return frame


def make(*, n_partitions=3, multiscale=False, n=600):
    """Labels in pixels and points in um, both brought to pixels of `global`; and what the points are in pixels."""
    frame = transcripts(n)
    in_um = frame.assign(x=frame.x * PIXEL_UM, y=frame.y * PIXEL_UM)
    parts = np.array_split(np.arange(n), n_partitions)
    # every partition counts from 0, as partitions read from parquet files do
    points = dd.concat([dd.from_pandas(in_um.iloc[part].reset_index(drop=True), npartitions=1) for part in parts])
    points = PointsModel.parse(points, feature_key="gene", transformations={"global": Scale([1 / PIXEL_UM, 1 / PIXEL_UM], axes=("x", "y"))})
    labels = Labels2DModel.parse(cells(), dims=("y", "x"), scale_factors=[2] if multiscale else None)
    return SpatialData(labels={"cells": labels}, points={"transcripts": points}), frame


def expected_ids(frame):
    inside = cells()[frame.y.astype(int), frame.x.astype(int)]
    return np.where(frame.gene.str.startswith("BLANK"), 0, inside)


@pytest.mark.parametrize("multiscale", [False, True])
@pytest.mark.parametrize("n_partitions", [1, 4])
def test_ids_follow_the_masks_through_the_transformations(multiscale, n_partitions):
    sdata, frame = make(multiscale=multiscale, n_partitions=n_partitions)
    before = sdata["transcripts"].compute()
    assign_transcripts(sdata, "cells", key_added="cell")
    points = sdata["transcripts"]
    assert isinstance(points, dd.DataFrame)
    assert points.npartitions == n_partitions
    after = points.compute()
    np.testing.assert_array_equal(after["cell"], expected_ids(frame))
    assert after["cell"].dtype == np.int64
    pd.testing.assert_frame_equal(after.drop(columns="cell"), before)
    assert points.attrs["spatialdata_attrs"]["feature_key"] == "gene"
    assert isinstance(get_transformation(points), Scale)
    PointsModel().validate(points)


def test_controls_can_be_kept():
    sdata, frame = make()
    assign_transcripts(sdata, "cells", "transcripts", key_added="cell", control_pattern=None)
    np.testing.assert_array_equal(sdata["transcripts"]["cell"].compute(), cells()[frame.y.astype(int), frame.x.astype(int)])


def test_a_turned_and_shifted_frame():
    sdata, frame = make()
    turn = Affine([[0, -2, 100], [2, 0, -30], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    sdata["moved"] = Labels2DModel.parse(cells(), dims=("y", "x"), transformations={"stage": turn})
    xy = np.stack([100 - 2 * frame.y, 2 * frame.x - 30], axis=1)
    moved = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "gene": frame.gene})
    sdata["moved_points"] = PointsModel.parse(moved, feature_key="gene", transformations={"stage": Identity()})
    assign_transcripts(sdata, "moved", "moved_points", key_added="cell", coordinate_system="stage")
    np.testing.assert_array_equal(sdata["moved_points"]["cell"].compute(), expected_ids(frame))
    with pytest.raises(InputError, match="coordinate_system='stage'"):
        assign_transcripts(sdata, "moved", "moved_points", key_added="again")
    with pytest.raises(AmbiguousElementError, match="points_key"):
        assign_transcripts(sdata, "cells", key_added="cell")


@pytest.mark.parametrize("multiscale", [False, True])
def test_the_table_counts_each_gene_in_each_label(multiscale):
    sdata, frame = make(multiscale=multiscale)
    aggregate(sdata, "cells", key_added="counts")
    table = sdata["counts"]
    ids = expected_ids(frame)
    expected = pd.crosstab(ids, frame.gene).loc[[3, 7, 120], ["A", "B", "C"]]
    assert list(table.var_names) == ["A", "B", "C"]
    np.testing.assert_array_equal(table.X.toarray(), expected)
    np.testing.assert_array_equal(table.layers["counts"].toarray(), expected)
    assert issparse(table.X)
    assert table.X.format == "csr"
    assert np.issubdtype(table.X.dtype, np.integer)
    assert table.obs["cell_id"].tolist() == [3, 7, 120]
    assert table.obs["n_transcripts"].tolist() == expected.sum(axis=1).tolist()
    assert isinstance(table.obs["region"].dtype, pd.CategoricalDtype)
    assert table.obs_names.map(type).unique().tolist() == [str]
    assert get_table_keys(table) == ("cells", "region", "cell_id")
    np.testing.assert_allclose(table.obs["area_um2"], np.array([100, 150, 150]) * PIXEL_UM**2)
    np.testing.assert_allclose(table.obsm["spatial"], [[25, 10], [12.5, 10], [47.5, 30]])
    assert "spatial" not in table.uns
    TableModel().validate(table)


def test_without_a_physical_size_areas_are_in_pixels():
    sdata = SpatialData(
        labels={"cells": Labels2DModel.parse(cells(), dims=("y", "x"))},
        points={"transcripts": PointsModel.parse(transcripts(), feature_key="gene")},
    )
    aggregate(sdata, "cells", key_added="counts")
    assert sdata["counts"].obs["area_px2"].tolist() == [100, 150, 150]
    aggregate(sdata, "cells", key_added="counts_um", pixel_size_um=2.0)
    assert sdata["counts_um"].obs["area_um2"].tolist() == [400, 600, 600]


def test_a_label_without_transcripts_keeps_its_row():
    sdata, _ = make()
    labels = cells()
    labels[39, 59] = 500
    sdata["more"] = Labels2DModel.parse(labels, dims=("y", "x"))
    aggregate(sdata, "more", key_added="counts")
    row = sdata["counts"].obs.set_index("cell_id").loc[500]
    assert row["n_transcripts"] == 0
    assert row["area_um2"] == PIXEL_UM**2


def test_counting_by_a_column_instead_of_the_masks():
    sdata, frame = make()
    rng = np.random.default_rng(1)
    given = rng.choice([0, 3, 7, 120], len(frame))
    points = sdata["transcripts"].compute().reset_index(drop=True).assign(given=given, far=given + 1)
    sdata["by_tool"] = PointsModel.parse(points, feature_key="gene", transformations=get_transformation(sdata["transcripts"], get_all=True))
    aggregate(sdata, "cells", "by_tool", key_added="counts", cell_id_key="given")
    expected = pd.crosstab(given, frame.gene).loc[[3, 7, 120], ["A", "B", "C"]]
    np.testing.assert_array_equal(sdata["counts"].X.toarray(), expected)
    with pytest.raises(InputError, match=r"holds 4 ids that the labels do not have, e\.g\. \[1, 4, 8\]"):
        aggregate(sdata, "cells", "by_tool", key_added="more", cell_id_key="far")
    with pytest.raises(MissingElementError, match="no column 'sjg_cell_id'"):
        aggregate(sdata, "cells", "by_tool", key_added="more", cell_id_key="sjg_cell_id")
    with pytest.raises(InputError, match="integer ids"):
        aggregate(sdata, "cells", "by_tool", key_added="more", cell_id_key="gene")
    with pytest.raises(InputError, match="integer ids"):
        aggregate(sdata, "cells", "by_tool", key_added="more", cell_id_key="x")
    assert "more" not in sdata.tables


def test_assignment_and_table_agree():
    sdata, _ = make()
    assign_transcripts(sdata, "cells", key_added="cell")
    aggregate(sdata, "cells", key_added="by_mask")
    aggregate(sdata, "cells", key_added="by_column", cell_id_key="cell")
    np.testing.assert_array_equal(sdata["by_mask"].X.toarray(), sdata["by_column"].X.toarray())


def test_nothing_is_replaced_unasked():
    sdata, _ = make()
    assign_transcripts(sdata, "cells", key_added="cell")
    aggregate(sdata, "cells", key_added="counts")
    with pytest.raises(ExistingElementError, match="overwrite=True"):
        assign_transcripts(sdata, "cells", key_added="vendor")
    with pytest.raises(ExistingElementError, match="overwrite=True"):
        aggregate(sdata, "cells", key_added="counts")
    with pytest.raises(MissingElementError, match="'cells'"):
        aggregate(sdata, "nuclei", key_added="other")
    assign_transcripts(sdata, "cells", key_added="cell", overwrite=True)
    aggregate(sdata, "cells", key_added="counts", overwrite=True)


def test_a_backed_object_has_both_on_disk(tmp_path):
    sdata, frame = make(n_partitions=2, n=200)
    path = tmp_path / "tissue.zarr"
    sdata.write(path)
    sdata = read_zarr(path)
    assign_transcripts(sdata, "cells", key_added="cell")
    aggregate(sdata, "cells", key_added="counts")
    again = read_zarr(path)
    np.testing.assert_array_equal(again["transcripts"]["cell"].compute(), expected_ids(frame))
    np.testing.assert_array_equal(again["counts"].X.toarray(), sdata["counts"].X.toarray())
    assert again["counts"].obs["cell_id"].tolist() == [3, 7, 120]
