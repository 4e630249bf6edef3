"""`tl.segment` on channels in place of genes: stained images, gene densities, patch files."""

from __future__ import annotations

import numpy as np
import pytest
import spatialdata as sd
from scipy import ndimage
from spatialdata.models import Image2DModel, Labels2DModel
from spatialdata.transformations import Scale

import sjg
from sjg.core import AmbiguousElementError, CheckpointError, InputError
from sjg.metrics import instance_iou

QUICK = {"preset": "fast", "max_epochs": 1, "parameters": {"steps_per_round": 20, "n_importance_patches": 2}, "progress": False}
PUBLISHED = {"preset": "published", "parameters": {"patch_size_px": 64, "channels": (8, 12), "learning_rate": 1e-2}, "progress": False}


def stained(side=96, pitch=24, seed=0):
    """(channels, nuclei, cells, types): square cells of two types, a bright and a dim marker, an empty channel, offsets and noise."""
    rng = np.random.default_rng(seed)
    cells, nuclei = np.zeros((side, side), np.int32), np.zeros((side, side), np.int32)
    y, x = np.mgrid[:side, :side]
    n = 0
    for top in range(0, side, pitch):
        for left in range(0, side, pitch):
            n += 1
            cells[top + 2 : top + pitch - 2, left + 2 : left + pitch - 2] = n
            nuclei[np.hypot(y - top - pitch / 2 + 0.5, x - left - pitch / 2 + 0.5) < 5.5] = n
    types = np.arange(n) % 2
    kind = np.r_[-1, types][cells]
    planes = [
        400 + 3000 * (nuclei > 0),  # dapi
        200 + 2000 * (kind == 0),
        900 + 150 * (kind == 1),
        300 + 800 * (cells > 0),
        np.full(cells.shape, 77),
    ]
    image = np.stack([ndimage.gaussian_filter(p.astype(float), 0.7) + rng.normal(0, 12, p.shape) for p in planes])
    return image.clip(0).astype(np.uint16), nuclei, cells, types


def codex(*, with_nuclei=True, **kwargs):
    image, nuclei, cells, _ = stained(**kwargs)
    names = ["DAPI", "CD3", "CD20", "membrane", "empty"]
    frame = {"global": Scale([0.4, 0.4], axes=("y", "x"))}
    labels = {"cells": Labels2DModel.parse(cells, dims=("y", "x"), transformations=dict(frame))}
    if with_nuclei:
        labels["nuclei"] = Labels2DModel.parse(nuclei, dims=("y", "x"), transformations=dict(frame))
    return sd.SpatialData(
        images={"codex": Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=names, transformations=dict(frame))}, labels=labels
    )


@pytest.fixture(scope="module")
def run():
    sdata = codex()
    sjg.tl.segment(sdata, points_key=None, image_key="codex", pixel_size_um=0.4, **QUICK)
    return sdata


def test_channels_give_cells_intensities_and_importance(run):
    labels, table = np.asarray(run["sjg_cells"].data), run["sjg_table"]
    image = np.asarray(run["codex"].data)
    # the nuclear stain is no feature
    assert list(table.var_names) == ["CD3", "CD20", "membrane", "empty"]
    for row in (0, 7):
        inside = labels == table.obs["cell_id"].iloc[row]
        np.testing.assert_allclose(table.X[row], image[1:, inside].mean(1), rtol=1e-5)
        np.testing.assert_allclose(table.layers["total"][row], image[1:, inside].sum(1), rtol=1e-5)
        assert table.obs["area_um2"].iloc[row] == pytest.approx(inside.sum() * 0.16)
    assert "counts" not in table.layers
    assert "n_transcripts" not in table.obs
    assert instance_iou(np.asarray(run["cells"].data), labels) > instance_iou(np.asarray(run["cells"].data), np.asarray(run["nuclei"].data))
    importance = table.varm["gene_importance"]
    assert importance.shape[0] == 4
    assert np.isfinite(importance.to_numpy()).all()
    # both cell types are found, and an empty channel tells nothing of either
    _, _, _, types = stained()
    found = table.obs["cell_type"].to_numpy().astype(str)
    assert (found[types == 0] != found[types == 1][0]).all()
    assert (found[types == 1] == found[types == 1][0]).all()
    assert (importance.idxmin() == "empty").all()


def test_the_object_survives_the_store_and_attributes_again(run, tmp_path):
    run.write(tmp_path / "cells.zarr")
    back = sd.read_zarr(tmp_path / "cells.zarr")
    table = back["sjg_table"]
    kind = table.varm["gene_importance"].columns[0]
    before = table.varm["gene_importance"][kind].copy()
    sjg.tl.attribute(back, cell_types=kind, random_state=1)
    after = back["sjg_table"].varm["gene_importance"][kind]
    assert after.corr(before, method="spearman") > 0.7
    sjg.tl.attribute(back, cell_types=kind, genes=["CD3"], key_added="maps")
    assert back["maps"].shape == (1, 96, 96)


def test_nuclei_are_found_in_the_nuclear_channel():
    few = {**QUICK, "parameters": {"steps_per_round": 3, "n_importance_patches": 1}}
    sdata = codex(with_nuclei=False)
    sjg.tl.segment(sdata, **few)
    assert len(sdata["sjg_table"]) == 16
    assert "DAPI" not in sdata["sjg_table"].var_names
    sdata = codex(with_nuclei=False)
    sjg.tl.segment(sdata, channel="membrane", key_added="odd", **few)
    assert list(sdata["odd_table"].var_names) == ["DAPI", "CD3", "CD20", "empty"]


def test_points_go_first_and_channels_can_be_asked_for():
    sdata = sjg.datasets.simulated_tissue(size_um=(48, 48), n_cell_types=2, n_genes=12)
    image = np.asarray(sdata["dapi"].data)
    stack = np.concatenate([image, *(ndimage.gaussian_filter(image, (0, s, s)) for s in (2, 5))])
    del sdata.images["dapi"]
    sdata.images["stack"] = Image2DModel.parse(
        stack, dims=("c", "y", "x"), c_coords=["dapi", "a", "b"], transformations={"global": Scale([0.5, 0.5], axes=("y", "x"))}
    )
    few = {**QUICK, "parameters": {"steps_per_round": 3, "n_importance_patches": 1}}
    sjg.tl.segment(sdata, reference="reference", **few)
    assert sdata["sjg_table"].n_vars == 12
    sjg.tl.segment(sdata, features="channels", key_added="stained", **few)
    assert list(sdata["stained_table"].var_names) == ["a", "b"]
    assert "stained_cell_id" not in sdata["transcripts"].columns
    sjg.tl.segment(sdata, features="channels", channels=["b", "dapi"], key_added="chosen", **few)
    assert list(sdata["chosen_table"].var_names) == ["b", "dapi"]
    with pytest.raises(InputError, match="one of the two"):
        sjg.tl.segment(sdata, points_key="transcripts", features="channels", key_added="x", **few)
    with pytest.raises(InputError, match="for channels in place of genes"):
        sjg.tl.segment(sdata, channels=["a"], key_added="x", **few)


@pytest.mark.parametrize(
    ("change", "kwargs", "error", "match"),
    [
        (lambda s: None, {"channels": ["CD3", "CD99"]}, InputError, "CD99|has the channels"),
        (lambda s: None, {"channels": ["CD3"]}, InputError, "at least 2"),
        (lambda s: None, {"channels": ["empty", "CD3"], "channel_values": "counts"}, InputError, "density"),
        (lambda s: None, {"features": "proteins"}, InputError, "transcripts"),
        (lambda s: s.images.__setitem__("other", s["codex"]), {}, AmbiguousElementError, "other"),
        (
            lambda s: s.images.__setitem__("codex", Image2DModel.parse(np.asarray(s["codex"].data)[:1], dims=("c", "y", "x"))),
            {},
            InputError,
            "without points",
        ),
        (
            lambda s: s.images.__setitem__(
                "codex",
                Image2DModel.parse(
                    np.asarray(s["codex"].data).astype(np.float32) - 500,
                    dims=("c", "y", "x"),
                    transformations={"global": Scale([0.4, 0.4], axes=("y", "x"))},
                ),
            ),
            {"channel_values": "density", "nuclei_key": "nuclei"},
            InputError,
            "negative",
        ),
    ],
)
def test_unusable_channels_are_refused_before_any_work(change, kwargs, error, match):
    sdata = codex()
    change(sdata)
    before = sorted(name for _, name, _ in sdata.gen_elements())
    with pytest.raises(error, match=match):
        sjg.tl.segment(sdata, **{**QUICK, **kwargs})
    assert sorted(name for _, name, _ in sdata.gen_elements()) == before


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches") / "data"
    sdata = sjg.datasets.simulated_tissue(size_um=(64, 64), n_cell_types=3, n_genes=15, random_state=2)
    sjg.pp.annotate_nuclei(sdata, reference="reference")
    sjg.io.write_patches(sdata, folder, patch_size_px=64, ground_truth_key="cells")
    (folder / "test").mkdir()
    (folder / "p_1_1.npz").rename(folder / "test" / "p_1_1.npz")
    return folder


def test_patch_files_are_segmented_as_they_are_and_again_from_a_checkpoint(patches, tmp_path):
    sdata = sjg.io.read_patches(patches)
    sjg.tl.segment(sdata, cell_type_key="cell_type", max_epochs=12, checkpoint_dir=tmp_path, **PUBLISHED)
    cells, nuclei = np.asarray(sdata["sjg_cells"].data), np.asarray(sdata["nuclei"].data)
    # on the pixels of the files
    assert cells.shape == (128, 128)
    np.testing.assert_array_equal(sdata["sjg_table"].obs["nucleus_id"].to_numpy()[cells[nuclei > 0] - 1], nuclei[nuclei > 0])
    assert sdata["sjg_table"].uns["sjg"]["request"]["channel_values"] == "density"
    sjg.tl.segment(sdata, cell_type_key="cell_type", max_epochs=12, checkpoint_dir=tmp_path, resume=True, key_added="again", **PUBLISHED)
    np.testing.assert_array_equal(np.asarray(sdata["again_cells"].data), cells)
    everywhere = sjg.io.read_patches(patches)
    del everywhere.attrs["sjg_patches"]
    # without the record nothing is held out, so this is another run
    with pytest.raises(CheckpointError, match="other data"):
        sjg.tl.segment(
            everywhere,
            image_key="genes",
            cell_type_key="cell_type",
            channel_values="density",
            max_epochs=12,
            checkpoint_dir=tmp_path,
            resume=True,
            **PUBLISHED,
        )


def test_densities_work_with_the_other_presets(patches):
    sdata = sjg.io.read_patches(patches)
    sjg.tl.segment(sdata, cell_type_key="cell_type", **QUICK)
    truth = np.asarray(sdata["ground_truth"].data)
    assert instance_iou(truth, np.asarray(sdata["sjg_cells"].data)) > instance_iou(truth, np.asarray(sdata["nuclei"].data)) + 0.1


@pytest.mark.parametrize("method", ["closed_form", "gradient", "optimize"])
def test_published_networks_attribute_again(patches, method):
    sdata = sjg.io.read_patches(patches)
    sjg.tl.segment(sdata, cell_type_key="cell_type", max_epochs=3, **PUBLISHED)
    table = sdata["sjg_table"]
    kind = str(table.varm["gene_importance"].columns[0])
    genes = list(table.var_names[:5])
    sjg.tl.attribute(sdata, cell_types=kind, genes=genes, method=method, n_steps=2, n_patches=1)
    assert np.isfinite(sdata["sjg_table"].varm["gene_importance"].loc[genes, kind]).all()
    sjg.tl.attribute(sdata, cell_types=kind, genes=genes[:2], method=method, n_steps=2, key_added="maps")
    assert sdata["maps"].shape == (2, 128, 128)
