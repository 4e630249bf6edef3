from __future__ import annotations

import numpy as np
import pytest
from skimage.io import imread

from sjg.imaging._watershed import WatershedParameters, watershed_nuclei
from sjg.metrics import f1_at_iou


@pytest.mark.parametrize("diameter_px", [9, 16, 40])
def test_finds_planted_nuclei_of_any_size(planted_nuclei, diameter_px):
    image, truth = planted_nuclei((12 * diameter_px, 14 * diameter_px), diameter_px)
    labels = watershed_nuclei(image)
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))
    assert f1_at_iou(labels, truth, iou=0.6) >= 0.97


def test_splits_touching_nuclei(planted_nuclei):
    image, truth = planted_nuclei((300, 300), 20, touching=True)
    assert f1_at_iou(watershed_nuclei(image), truth, iou=0.6) >= 0.95


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (255 * image / image.max()).clip(0).astype(np.uint8),
        lambda image: (9000 + 500 * image).astype(np.uint16),
        lambda image: (30000 * image).clip(0).astype(np.float64),
        lambda image: image * np.linspace(0.4, 1.6, image.shape[1])[None, :],
        lambda image: image + np.linspace(0, 2, image.shape[0])[:, None],
    ],
    ids=["uint8", "low contrast uint16", "float64", "uneven light", "uneven background"],
)
def test_does_not_depend_on_units_light_or_background(planted_nuclei, change):
    image, truth = planted_nuclei((260, 260), 18, noise=0.01)
    assert f1_at_iou(watershed_nuclei(change(image)), truth, iou=0.5) >= 0.95


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 5)),
        np.zeros((80, 90), np.uint8),
        np.full((80, 90), 7.5),
        np.full((40, 40), np.nan),
        np.random.default_rng(0).normal(size=(300, 300)),
        np.random.default_rng(1).poisson(4.0, size=(300, 300)).astype(np.uint16),
        np.zeros((3, 4)) + np.arange(4),
    ],
    ids=["empty", "zero", "constant", "NaN", "normal noise", "Poisson noise", "tiny"],
)
def test_no_nuclei_where_there_are_none(image):
    labels = watershed_nuclei(image)
    assert labels.shape == image.shape
    # noise may pass once by chance
    assert labels.max(initial=0) <= 1


def test_pixels_without_a_value_are_dark(planted_nuclei):
    image, truth = planted_nuclei((200, 200), 16)
    image[:5] = np.nan
    assert f1_at_iou(watershed_nuclei(image), truth, iou=0.6) >= 0.95


def test_tiles_leave_no_seams(planted_nuclei):
    image, _ = planted_nuclei((420, 400), 14, touching=True)
    whole = watershed_nuclei(image, diameter_px=14)
    tiled = watershed_nuclei(image, diameter_px=14, parameters=WatershedParameters(tile_px=150))
    assert np.unique(tiled).tolist() == list(range(tiled.max() + 1))
    assert f1_at_iou(tiled, whole, iou=0.95) >= 0.99


def test_is_deterministic_and_turns_with_the_tissue(planted_nuclei):
    image, _ = planted_nuclei((240, 300), 18, touching=True)
    labels = watershed_nuclei(image, diameter_px=18)
    np.testing.assert_array_equal(labels, watershed_nuclei(image.copy(), diameter_px=18))
    for turn in (np.flipud, np.transpose):
        assert f1_at_iou(turn(watershed_nuclei(turn(image).copy(), diameter_px=18)), labels, iou=0.85) >= 0.97


@pytest.mark.parametrize("diameter_px", [0, -3, np.nan, np.inf])
def test_refuses_a_diameter_that_is_none(diameter_px):
    with pytest.raises(ValueError, match="diameter_px"):
        watershed_nuclei(np.eye(40), diameter_px=diameter_px)


def test_refuses_a_stack():
    with pytest.raises(ValueError, match="3 dimensions"):
        watershed_nuclei(np.zeros((2, 9, 9)))


def test_manual_masks_of_fluorescence_nuclei(data_dir):
    folder = data_dir / "fluorescence_nuclei"
    files = sorted((folder / "images").glob("*.tif"))
    if not files:
        pytest.skip(f"no images in {folder}")
    scores = [f1_at_iou(watershed_nuclei(imread(file)), imread(folder / "masks" / file.name).astype(np.int32), iou=0.5) for file in files]
    assert np.mean(scores) >= 0.87


def test_manual_mask_of_a_tissue_section(data_dir):
    folder = data_dir / "nuclei_2d_3d"
    if not (folder / "img2d.tif").is_file():
        pytest.skip(f"no img2d.tif in {folder}")
    assert f1_at_iou(watershed_nuclei(imread(folder / "img2d.tif")), imread(folder / "mask2d.tif").astype(np.int32), iou=0.5) >= 0.84
