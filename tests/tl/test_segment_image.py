from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image2DModel
from spatialdata.transformations import Scale, get_transformation

import sjg
from sjg.core import CheckpointError, ExistingElementError, InputError, MissingElementError
from sjg.imaging import FolderResults
from sjg.metrics import f1_at_iou


@pytest.fixture(scope="module")
def scene(planted_nuclei):
    return planted_nuclei((330, 300), 14)


def _object(image, *, extra=(), transformation=None, dtype=np.float32):
    planes = np.stack([image, *extra]).astype(dtype)
    names = ["dapi", *(f"membrane{index}" for index in range(len(extra)))]
    parsed = Image2DModel.parse(
        planes, dims=("c", "y", "x"), c_coords=names, transformations={"global": transformation or Scale([0.5, 0.5], axes=("x", "y"))}
    )
    return SpatialData(images={"stain": parsed})


def _threshold(image):
    plane = image if image.ndim == 2 else image[0]
    return ndimage.label(plane > 0.4)[0]


def test_tiled_and_stitched_equals_untiled(scene, planted_membranes):
    image, truth = scene
    nucleus, membrane, _ = planted_membranes
    for sdata, membranes in ((_object(image), None), (_object(nucleus, extra=(membrane,)), "membrane0")):
        options = {"diameter_px": 14, "compartment": "both", "membrane_channels": membranes, "progress": False}
        sjg.pp.patches(sdata, patch_size_px=(120, 110), overlap=0.1)
        sjg.tl.segment_image(sdata, key_added="whole", **options)
        sjg.tl.segment_image(sdata, key_added="tiled", patches_key="patches", **options)
        for name in ("nuclei", "cells"):
            whole, tiled = (np.asarray(sdata.labels[f"{key}_{name}"]) for key in ("whole", "tiled"))
            assert f1_at_iou(whole, tiled, iou=1.0) == 1.0
            assert np.unique(tiled).tolist() == list(range(tiled.max() + 1))
        if membranes is None:
            assert f1_at_iou(truth, np.asarray(sdata.labels["tiled_nuclei"]), iou=0.6) >= 0.97


def test_nucleus_and_cell_share_their_id_and_frame(scene):
    image, _ = scene
    sdata = _object(image)
    sjg.tl.segment_image(sdata, compartment="both", boundaries=True, progress=False)
    nuclei, cells = (sdata.labels[f"image_{name}"] for name in ("nuclei", "cells"))
    inside = np.asarray(nuclei) > 0
    np.testing.assert_array_equal(np.asarray(nuclei)[inside], np.asarray(cells)[inside])
    assert (np.asarray(cells) > 0).sum() > inside.sum()
    assert np.asarray(cells).dtype == np.int32
    for element in (nuclei, cells, sdata.images["image_boundaries"]):
        assert get_transformation(element) == get_transformation(sdata.images["stain"])


def test_boundaries_are_an_image(scene):
    from skimage.segmentation import find_boundaries

    sdata = _object(scene[0])
    sjg.tl.segment_image(sdata, boundaries=True, progress=False)
    boundaries = sdata.images["image_boundaries"]
    assert boundaries.c.values.tolist() == ["nucleus"]
    expected = find_boundaries(np.asarray(sdata.labels["image_nuclei"]), connectivity=1, mode="inner")
    np.testing.assert_array_equal(np.asarray(boundaries)[0] == 255, expected)


def test_a_membrane_stain_moves_the_borders(planted_membranes):
    nucleus, membrane, cells = planted_membranes
    sdata = _object(nucleus, extra=(membrane,))
    sjg.tl.segment_image(sdata, diameter_px=14, compartment="cell", key_added="plain", progress=False)
    sjg.tl.segment_image(sdata, diameter_px=14, compartment="cell", membrane_channels="membrane0", key_added="stained", progress=False)
    plain, stained = (f1_at_iou(cells, np.asarray(sdata.labels[f"{key}_cells"]), iou=0.7) for key in ("plain", "stained"))
    assert plain < 0.3
    assert stained > 0.8


def test_a_stain_that_knows_nothing_changes_nothing(scene):
    image, _ = scene
    noise = np.random.default_rng(0).normal(1, 0.2, image.shape)
    sdata = _object(image, extra=(noise,))
    sjg.tl.segment_image(sdata, compartment="cell", key_added="plain", progress=False)
    sjg.tl.segment_image(sdata, compartment="cell", membrane_channels=["membrane0"], key_added="noise", progress=False)
    assert f1_at_iou(np.asarray(sdata.labels["plain_cells"]), np.asarray(sdata.labels["noise_cells"]), iou=0.9) > 0.95


def test_any_function_patch_by_patch(scene):
    image, _ = scene
    sdata = _object(image, extra=(image,))
    sjg.pp.patches(sdata, patch_size_px=100)
    shapes = []

    def function(window):
        shapes.append(window.shape)
        return _threshold(window), _threshold(window)

    sjg.tl.segment_image(
        sdata, method=function, compartment="both", membrane_channels=["membrane0"], patches_key="patches", halo_px=40, progress=False
    )
    assert all(len(shape) == 3 and shape[0] == 2 for shape in shapes)
    assert f1_at_iou(_threshold(image), np.asarray(sdata.labels["image_nuclei"]), iou=1.0) == 1.0


class _Mesmer:
    """Mesmer's interface: batches, both compartments with the cell first."""

    def __init__(self):
        self.batches = []

    def predict(self, batch, *, image_mpp, compartment):
        self.batches.append((batch.shape, image_mpp, compartment))
        nuclei = np.stack([_threshold(image[..., 0]) for image in batch])
        cells = np.stack([ndimage.grey_dilation(one, 3) for one in nuclei])
        return {"nuclear": nuclei[..., None], "whole-cell": cells[..., None], "both": np.stack([cells, nuclei], axis=-1)}[compartment]


def test_mesmer_compatible_objects_get_batches_sized_by_memory(scene):
    image, _ = scene
    sdata = _object(image)
    sjg.pp.patches(sdata, patch_size_px=100)
    n_patches = len(sdata["patches"])
    for memory, expected in ((10.0, 1), (0.00001, n_patches)):
        mesmer = _Mesmer()
        sjg.tl.segment_image(
            sdata,
            method=mesmer,
            compartment="both",
            patches_key="patches",
            halo_px=30,
            pixel_size_um=0.5,
            max_memory_gb=memory,
            overwrite=True,
            progress=False,
        )
        assert len(mesmer.batches) == expected
        assert all(shape[3] == 2 and mpp == 0.5 and word == "both" for shape, mpp, word in mesmer.batches)
        assert f1_at_iou(_threshold(image), np.asarray(sdata.labels["image_nuclei"]), iou=1.0) == 1.0
        assert (np.asarray(sdata.labels["image_cells"]) > 0).sum() > (np.asarray(sdata.labels["image_nuclei"]) > 0).sum()


def test_uninformative_patches_are_skipped_and_counted(planted_nuclei, caplog):
    image, _ = planted_nuclei((240, 240), 14)
    wide = np.concatenate([image, np.full((240, 240), 0.1) + 0.02 * np.random.default_rng(0).standard_normal((240, 240))], axis=1)
    sdata = _object(wide)
    sjg.pp.patches(sdata, mode="halves", overlap=0)
    sjg.pp.patch_quality(sdata)
    assert sdata["patches"]["informative"].tolist() == [True, False]
    seen = []

    def function(window):
        seen.append(window.shape)
        return _threshold(window)

    with caplog.at_level("INFO", logger="sjg"):
        sjg.tl.segment_image(sdata, method=function, patches_key="patches", halo_px=20, progress=False)
    assert seen == [(240, 260)]
    assert "1 skipped" in caplog.text


def test_memory_and_disk_agree_and_a_stopped_run_goes_on(scene, tmp_path, monkeypatch):
    image, _ = scene
    memory = _object(image)
    sjg.pp.patches(memory, patch_size_px=120)
    memory.write(tmp_path / "a.zarr")
    memory.path = None
    sjg.tl.segment_image(memory, diameter_px=14, patches_key="patches", progress=False)
    stored = read_zarr(tmp_path / "a.zarr")
    monkeypatch.setattr(sjg.access, "MAX_IN_MEMORY_PX2", 0)
    original = FolderResults.save
    folder = tmp_path / "patches"

    def stops(self, index, labels):
        if index == 4:
            raise KeyboardInterrupt
        original(self, index, labels)

    options = {"diameter_px": 14, "patches_key": "patches", "checkpoint_dir": folder, "max_memory_gb": 1e-6, "progress": False}
    monkeypatch.setattr(FolderResults, "save", stops)
    with pytest.raises(KeyboardInterrupt):
        sjg.tl.segment_image(stored, **options)
    assert "image_nuclei" not in stored.labels
    saved = []
    monkeypatch.setattr(FolderResults, "save", lambda self, index, labels: (saved.append(index), original(self, index, labels)))
    with pytest.raises(CheckpointError, match="diameter_px"):
        sjg.tl.segment_image(stored, **(options | {"diameter_px": 15}), resume=True)
    sjg.tl.segment_image(stored, **options, resume=True)
    assert saved == list(range(4, len(memory["patches"])))
    expected = np.asarray(memory.labels["image_nuclei"])
    np.testing.assert_array_equal(np.asarray(read_zarr(tmp_path / "a.zarr").labels["image_nuclei"]), expected)
    # what is in memory reads from the store, not from files that are gone
    np.testing.assert_array_equal(np.asarray(stored.labels["image_nuclei"]), expected)


def test_errors_come_before_any_work(scene, tmp_path):
    sdata = _object(scene[0])

    def never(image):
        raise AssertionError

    with pytest.raises(InputError, match="weights=.*downloads none"):
        sjg.tl.segment_image(sdata, method="cellpose")
    with pytest.raises(InputError, match="does not exist"):
        sjg.tl.segment_image(sdata, method="stardist", weights=tmp_path / "no")
    with pytest.raises(InputError, match="is unknown"):
        sjg.tl.segment_image(sdata, method="magic")
    with pytest.raises(InputError, match="checkpoint_dir"):
        sjg.tl.segment_image(sdata, method=never, resume=True)
    with pytest.raises(MissingElementError, match="pp.patches"):
        sjg.tl.segment_image(sdata, method=never, patches_key="tiles")
    with pytest.raises(InputError, match="compartment"):
        sjg.tl.segment_image(sdata, method=never, compartment="membrane")
    sjg.tl.segment_image(sdata, method=_threshold, progress=False)
    with pytest.raises(ExistingElementError, match="overwrite=True"):
        sjg.tl.segment_image(sdata, method=never)
    with pytest.raises(InputError, match="shape"):
        sjg.tl.segment_image(sdata, method=lambda image: image[:5], key_added="other", progress=False)
    assert "other_nuclei" not in sdata.labels


def test_a_network_that_is_not_installed_says_what_to_install(scene, tmp_path, monkeypatch):
    from sjg.core import DependencyError

    monkeypatch.setitem(__import__("sys").modules, "cellpose", None)
    (tmp_path / "weights").touch()
    with pytest.raises(DependencyError, match="pip install cellpose"):
        sjg.tl.segment_image(_object(scene[0]), method="cellpose", weights=tmp_path / "weights")


def test_nuclei_feed_the_joint_segmentation():
    sdata = sjg.datasets.simulated_tissue(size_um=(40, 40), n_cell_types=2, n_genes=12)
    sjg.tl.segment_image(sdata, progress=False)
    sjg.tl.segment(sdata, nuclei_key="image_nuclei", reference="reference", preset="fast", max_epochs=1, progress=False)
    found = sdata["sjg_table"].obs["nucleus_id"]
    assert set(found) <= set(np.unique(np.asarray(sdata.labels["image_nuclei"])).tolist()) - {0}
    assert len(found) > 0.9 * np.asarray(sdata.labels["image_nuclei"]).max()
