"""`tl.segment` as a user meets it: outputs, bad input, nothing half written, chaining."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from anndata import AnnData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
from spatialdata.transformations import Identity, Scale, Translation, set_transformation

import sjg
from sjg.core import AmbiguousElementError, CheckpointError, DeviceError, ExistingElementError, InputError, MissingElementError

QUICK = {"preset": "fast", "max_epochs": 1, "parameters": {"steps_per_round": 4, "n_importance_patches": 1}, "progress": False}


def quick(sdata, **changes):
    sjg.tl.segment(sdata, **{**QUICK, **changes})


@pytest.fixture
def tissue():
    return sjg.datasets.simulated_tissue(size_um=(64, 64), n_cell_types=3, n_genes=30)


def points_with(sdata, change):
    """Replace the transcripts by a changed copy in the same frame."""
    frame = change(sdata.points["transcripts"].compute().reset_index(drop=True))
    sdata.points["transcripts"] = PointsModel.parse(
        frame, coordinates={"x": "x", "y": "y"}, feature_key="gene", transformations={"global": Identity()}
    )
    return sdata


def state_of(sdata):
    """What must not change in a failed run."""
    return sorted(name for _, name, _ in sdata.gen_elements()), list(sdata.points["transcripts"].columns)


@pytest.fixture(scope="module")
def segmented():
    sdata = sjg.datasets.simulated_tissue(size_um=(64, 64), n_cell_types=3, n_genes=30)
    quick(sdata, reference="reference")
    return sdata


def test_outputs_share_one_id(segmented):
    labels = np.asarray(segmented["sjg_cells"].data)
    table = segmented["sjg_table"]
    ids = np.arange(1, labels.max() + 1)
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), ids)
    np.testing.assert_array_equal(table.obs["cell_id"], ids)
    np.testing.assert_array_equal(segmented["sjg_boundaries"].index, ids)
    assert segmented["sjg_boundaries"].geometry.is_valid.all()
    points = segmented["transcripts"].compute()
    counted = points[points["sjg_cell_id"] > 0].groupby(["sjg_cell_id", "gene"], observed=True).size()
    for (cell, gene), n in list(counted.items())[::97]:
        assert table.layers["counts"][cell - 1, table.var_names.get_loc(gene)] == n
    assert table.X.sum() == (points["sjg_cell_id"] > 0).sum()
    np.testing.assert_array_equal(table.obs["n_transcripts"], np.asarray(table.X.sum(1)).ravel())
    assert points["sjg_confidence"].between(0, 1).all()
    assert {"cell_type", "cell_type_confidence", "area_um2", "nucleus_id"} <= set(table.obs)
    assert table.varm["gene_importance"].shape == (30, 3)
    assert np.isfinite(table.varm["gene_importance"].to_numpy()).all()
    assert {"parameters", "versions", "history", "quality", "network"} <= set(table.uns["sjg"])
    nuclei = np.asarray(segmented["nuclei"].data)
    np.testing.assert_array_equal(table.obs["nucleus_id"].to_numpy()[labels[nuclei > 0] - 1], nuclei[nuclei > 0])


def test_survives_the_store_and_chains_into_squidpy(segmented, tmp_path):
    import squidpy as sq

    segmented.write(tmp_path / "cells.zarr")
    back = sd.read_zarr(tmp_path / "cells.zarr")
    np.testing.assert_array_equal(np.asarray(back["sjg_cells"].data), np.asarray(segmented["sjg_cells"].data))
    table = back["sjg_table"]
    # a store may give names another type of text
    pd.testing.assert_frame_equal(
        table.varm["gene_importance"], segmented["sjg_table"].varm["gene_importance"], check_index_type=False, check_column_type=False
    )
    sq.gr.spatial_neighbors(table, coord_type="generic", delaunay=True)
    sq.gr.nhood_enrichment(table, cluster_key="cell_type", seed=0, n_perms=20, show_progress_bar=False)
    before = table.varm["gene_importance"].copy()
    sjg.tl.attribute(back, cell_types=list(before.columns[:1]), random_state=1)
    after = back["sjg_table"].varm["gene_importance"]
    pd.testing.assert_frame_equal(after.iloc[:, 1:], before.iloc[:, 1:])
    assert after.iloc[:, 0].corr(before.iloc[:, 0], method="spearman") > 0.8


def test_defaults_alone_cluster_and_find_nuclei(tissue):
    del tissue.labels["nuclei"]
    del tissue.labels["cells"]
    del tissue.tables["truth"]
    quick(tissue)
    types = tissue["sjg_table"].obs["cell_type"]
    assert all(name.isdigit() for name in types.cat.categories)
    assert len(tissue["sjg_table"]) > 10


def test_several_runs_side_by_side_and_overwrite(segmented):
    with pytest.raises(ExistingElementError, match="overwrite=True"):
        quick(segmented, reference="reference")
    quick(segmented, reference="reference", key_added="second", assignment="mask")
    assert {"sjg_cells", "second_cells"} <= set(segmented.labels)
    points = segmented["transcripts"].compute()
    assert {"sjg_cell_id", "second_cell_id"} <= set(points)
    quick(segmented, reference="reference", key_added="second", overwrite=True)


def test_same_seed_same_labels(tissue):
    quick(tissue, reference="reference", key_added="a")
    quick(tissue, reference="reference", key_added="b")
    np.testing.assert_array_equal(np.asarray(tissue["a_cells"].data), np.asarray(tissue["b_cells"].data))
    np.testing.assert_array_equal(tissue["a_table"].X.toarray(), tissue["b_table"].X.toarray())


def test_cell_types_from_a_column(tissue):
    nuclei = np.unique(np.asarray(tissue["nuclei"].data))[1:]
    truth = tissue["truth"].obs.set_index("cell_id")["cell_type"]
    obs = pd.DataFrame({"region": pd.Categorical(["nuclei"] * len(nuclei)), "cell_id": nuclei, "kind": truth.loc[nuclei].to_numpy()})
    obs.index = obs.index.astype(str)
    tissue.tables["typed"] = TableModel.parse(
        AnnData(np.zeros((len(nuclei), 1)), obs=obs), region="nuclei", region_key="region", instance_key="cell_id"
    )
    quick(tissue, cell_type_key="kind")
    assert set(tissue["sjg_table"].obs["cell_type"].cat.categories) <= set(truth.astype(str))
    with pytest.raises(InputError, match="absent"):
        quick(tissue, cell_type_key="absent", key_added="x")


def test_nuclei_ids_with_gaps_and_shapes(tissue):
    labels = np.asarray(tissue["nuclei"].data).astype(np.int64)
    tissue.labels["gappy"] = Labels2DModel.parse(
        labels * 1000, dims=("y", "x"), transformations={"global": Scale([0.5, 0.5], axes=("y", "x"))}
    )
    quick(tissue, nuclei_key="gappy", reference="reference", key_added="gaps")
    assert set(tissue["gaps_table"].obs["nucleus_id"]) == set((np.unique(labels)[1:] * 1000).tolist())
    tissue.shapes["nucleus_shapes"] = sd.to_polygons(tissue["nuclei"])
    quick(tissue, nuclei_key="nucleus_shapes", reference="reference", key_added="shapes")
    assert len(tissue["shapes_table"]) == len(np.unique(labels)) - 1


@pytest.mark.parametrize(
    ("change", "kwargs", "error", "match"),
    [
        (lambda s: s.images.pop("dapi"), {}, InputError, "image"),
        (lambda s: s.points.pop("transcripts"), {}, InputError, "points"),
        (lambda s: s.images.__setitem__("other", s["dapi"]), {}, AmbiguousElementError, "other"),
        (lambda s: None, {"image_key": "nope"}, MissingElementError, "dapi"),
        (lambda s: None, {"points_key": "nope"}, MissingElementError, "transcripts"),
        (lambda s: None, {"nuclei_key": "nope"}, MissingElementError, "nuclei"),
        (lambda s: None, {"feature_key": "nope"}, InputError, "nope"),
        (lambda s: None, {"coordinate_system": "nope"}, InputError, "global"),
        (lambda s: None, {"preset": "best"}, InputError, "default, fast, published"),
        (lambda s: None, {"parameters": {"epochs": 2}}, InputError, "n_rounds"),
        (lambda s: None, {"max_epochs": 0}, InputError, "max_epochs"),
        (lambda s: None, {"assignment": "nearest"}, InputError, "posterior"),
        (lambda s: None, {"random_state": -1}, InputError, "random_state"),
        (lambda s: None, {"resume": True}, InputError, "checkpoint_dir"),
        (lambda s: None, {"checkpoint_interval": 0}, InputError, "checkpoint_interval=0"),
        (lambda s: None, {"reference": "nope"}, MissingElementError, "truth"),
        (lambda s: None, {"reference": pd.DataFrame(np.ones((3, 2)), index=["a", "b", "c"])}, InputError, "share 0 genes"),
        (lambda s: None, {"device": "tpu"}, DeviceError, "cpu"),
        (
            lambda s: set_transformation(s["transcripts"], Translation([1e6, 1e6], axes=("x", "y")), "global"),
            {},
            InputError,
            "overlap",
        ),
        (lambda s: points_with(s, lambda f: f.assign(x=f["x"].where(f.index % 3 > 0, np.nan))), {}, InputError, "NaN|infinite|finite"),
        (lambda s: points_with(s, lambda f: f.assign(gene="one")), {}, InputError, "gene"),
        (
            lambda s: s.labels.__setitem__(
                "empty",
                Labels2DModel.parse(
                    np.zeros((128, 128), int), dims=("y", "x"), transformations={"global": Scale([0.5, 0.5], axes=("y", "x"))}
                ),
            ),
            {"nuclei_key": "empty"},
            InputError,
            "empty",
        ),
    ],
)
def test_bad_input_gives_one_clear_error_and_changes_nothing(tissue, change, kwargs, error, match):
    change(tissue)
    before = state_of(tissue) if "transcripts" in tissue.points else None
    with pytest.raises(error, match=match):
        quick(tissue, **{"reference": "reference", **kwargs})
    if before is not None:
        assert state_of(tissue) == before


def test_constant_image_without_nuclei_is_refused(tissue):
    del tissue.labels["nuclei"]
    tissue.images["dapi"] = Image2DModel.parse(
        np.full((1, 128, 128), 7, np.uint16), dims=("c", "y", "x"), transformations={"global": Scale([0.5, 0.5], axes=("y", "x"))}
    )
    with pytest.raises(InputError, match="dapi"):
        quick(tissue, reference="reference")


def test_a_few_bad_coordinates_are_dropped_and_counted(tissue):
    points_with(tissue, lambda f: f.assign(x=f["x"].where(f.index >= 5, np.inf)))
    quick(tissue, reference="reference")
    assert int(tissue["sjg_table"].uns["sjg"]["transcripts"]["n_nonfinite"]) == 5
    points = tissue["transcripts"].compute()
    assert (points["sjg_cell_id"].to_numpy()[:5] == 0).all()


def test_negative_counts_in_a_reference_are_refused(tissue):
    reference = tissue["reference"].copy()
    reference.X = np.asarray(reference.X) - 10.0
    with pytest.raises(InputError, match="mean counts of 0 or more|negative"):
        quick(tissue, reference=reference)


def test_failure_part_way_leaves_the_object_as_it_was(tissue, monkeypatch):
    from sjg import training

    def broken(*args, **kwargs):
        raise RuntimeError("out of coffee")

    monkeypatch.setattr(training, "segment_tissue", broken)
    before = state_of(tissue)
    with pytest.raises(RuntimeError, match="coffee"):
        quick(tissue, reference="reference")
    assert state_of(tissue) == before


def test_checkpoints_of_a_finished_run_can_be_resumed(tissue, tmp_path):
    quick(tissue, reference="reference", checkpoint_dir=tmp_path)
    quick(tissue, reference="reference", checkpoint_dir=tmp_path, resume=True, key_added="again")
    np.testing.assert_array_equal(np.asarray(tissue["sjg_cells"].data), np.asarray(tissue["again_cells"].data))
    with pytest.raises(CheckpointError, match="other data"):
        quick(tissue, reference="reference", checkpoint_dir=tmp_path, resume=True, key_added="third", random_state=5)


@pytest.mark.parametrize("preset", ["fast", "published"])
def test_a_folder_without_a_checkpoint_is_refused_before_anything_is_read(tissue, tmp_path, monkeypatch, preset):
    monkeypatch.setattr("sjg.tl._segment.read_inputs", lambda *_: pytest.fail("read"))
    (tmp_path / "weights.pt").write_bytes(b"of something else")
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path} holds no checkpoint")):
        sjg.tl.segment(tissue, reference="reference", preset=preset, checkpoint_dir=tmp_path, resume=True, progress=False)
    with pytest.raises(CheckpointError, match="nowhere holds no checkpoint"):
        quick(tissue, reference="reference", checkpoint_dir=tmp_path / "nowhere", resume=True)


def test_published_preset_writes_the_same_elements(tissue):
    sjg.tl.segment(tissue, reference="reference", preset="published", max_epochs=2, progress=False)
    assert {"sjg_cells"} <= set(tissue.labels)
    nuclei, cells = np.asarray(tissue["nuclei"].data), np.asarray(tissue["sjg_cells"].data)
    assert ((cells > 0)[nuclei > 0]).all()


def test_maps_of_attribution(segmented):
    gene, kind = segmented["sjg_table"].var_names[0], segmented["sjg_table"].varm["gene_importance"].columns[0]
    sjg.tl.attribute(segmented, cell_types=kind, genes=[gene], key_added="maps")
    image = segmented["maps"]
    assert image.shape == (1, *segmented["sjg_cells"].shape)
    assert np.isfinite(np.asarray(image.data)).all()
    with pytest.raises(ExistingElementError, match="maps"):
        sjg.tl.attribute(segmented, cell_types=kind, genes=[gene], key_added="maps")
    with pytest.raises(MissingElementError, match="no gene"):
        sjg.tl.attribute(segmented, genes=["nope"])
    with pytest.raises(InputError, match="closed_form, optimize, gradient"):
        sjg.tl.attribute(segmented, method="captum")


@pytest.mark.parametrize("method", ["optimize", "gradient"])
def test_other_methods_agree_on_the_leading_genes(segmented, method):
    kind = segmented["sjg_table"].varm["gene_importance"].columns[1]
    genes = list(segmented["sjg_table"].var_names[:6])
    sjg.tl.attribute(segmented, cell_types=kind, genes=genes, method=method, n_steps=3, n_patches=1)
    assert np.isfinite(segmented["sjg_table"].varm["gene_importance"].loc[genes, kind]).all()


def test_missed_nuclei_become_cells_of_their_own():
    sdata = sjg.datasets.simulated_tissue(size_um=(128, 128), coverage=0.45, missed_fraction=0.2, random_state=3)
    arguments = {"reference": "reference", "preset": "fast", "max_epochs": 1, "parameters": {"steps_per_round": 4}, "progress": False}
    sjg.tl.segment(sdata, **arguments, key_added="given")
    sjg.tl.segment(sdata, **arguments, key_added="found", find_missed=True)
    given, found = sdata["given_table"], sdata["found_table"]
    nucleus = found.obs["nucleus_id"].to_numpy()
    assert set(nucleus[nucleus > 0]) == set(given.obs["nucleus_id"])
    made = found.obs["cell_id"][nucleus == 0].to_numpy()
    assert 0 < len(made) < 0.5 * len(nucleus)
    # each of them holds a place of its own, outside the nuclei
    labels, nuclei = np.asarray(sdata["found_cells"]), np.asarray(sdata["nuclei"])
    assert not np.isin(labels[nuclei > 0], made).any()
    assert found.obs.loc[nucleus == 0, "n_transcripts"].median() > 10
    # the network of the run is found again with its cells
    gene, kind = found.var_names[0], found.varm["gene_importance"].columns[0]
    sjg.tl.attribute(sdata, table_key="found_table", cell_types=kind, genes=[gene], key_added="map", n_probes=1)
    assert "map" in sdata.images
