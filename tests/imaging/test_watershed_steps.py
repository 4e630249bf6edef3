"""The steps of the watershed, each against something simpler."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import h_maxima

from sjg.imaging._basins import deep_basins
from sjg.imaging._diameter import estimate_diameter_px
from sjg.imaging._enlarge import enlarge_labels
from sjg.imaging._foreground import block_mean, fill_holes


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.floats(0.02, 0.6))
def test_basins_are_the_h_maxima(seed, depth):
    heights = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 50)), 3)
    heights = (heights / heights.std()).astype(np.float32)
    basins = deep_basins(heights, np.ones(heights.shape, dtype=bool), depth)
    # connectivity differs (four and eight neighbours), so a saddle on a diagonal may count for one of them only
    _, expected = ndimage.label(h_maxima(heights.astype(np.float64), depth), structure=np.ones((3, 3)))
    assert abs(int(basins.max()) - expected) <= max(1, 0.1 * expected)
    assert np.unique(basins).tolist() == list(range(1, basins.max() + 1))


def test_basins_of_nothing():
    assert deep_basins(np.zeros((4, 5), np.float32), np.zeros((4, 5), bool), 1.0).max() == 0


def test_joined_basins_stay_inside_the_mask():
    heights = np.array([[3, 1, 2.5, 0, 9]], dtype=np.float32)
    mask = np.array([[True, True, True, False, True]])
    assert deep_basins(heights, mask, 0.5).tolist() == [[1, 1, 2, 0, 3]]
    assert deep_basins(heights, mask, 2.0).tolist() == [[1, 1, 1, 0, 2]]


@pytest.mark.parametrize("diameter_px", [10, 25, 60])
def test_diameter_is_estimated(planted_nuclei, diameter_px):
    image, truth = planted_nuclei((9 * diameter_px, 11 * diameter_px), diameter_px)
    assert truth.max() > 10
    assert estimate_diameter_px(image) == pytest.approx(diameter_px, rel=0.25)


def test_diameter_of_a_large_image_from_windows(planted_nuclei):
    image, _ = planted_nuclei((700, 700), 20)
    large = np.tile(image, (3, 4))
    assert estimate_diameter_px(large) == pytest.approx(estimate_diameter_px(image), rel=0.1)


def test_diameter_of_a_blank_image():
    assert estimate_diameter_px(np.zeros((50, 50))) is None


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), factor=st.integers(1, 5))
def test_block_mean_repeats_the_border(height, width, factor):
    image = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    padded = np.pad(image, ((0, -height % factor), (0, -width % factor)), mode="edge").astype(float)
    expected = [
        [padded[r : r + factor, c : c + factor].mean() for c in range(0, padded.shape[1], factor)]
        for r in range(0, padded.shape[0], factor)
    ]
    np.testing.assert_allclose(block_mean(image, factor), expected, rtol=1e-6)


def test_block_mean_of_many_strips():
    image = np.random.default_rng(0).random((2300, 4)).astype(np.float32)
    np.testing.assert_allclose(block_mean(image, 2), image.reshape(1150, 2, 2, 2).mean(axis=(1, 3)), rtol=1e-5)


def test_holes_are_filled_by_size():
    mask = np.ones((9, 12), dtype=bool)
    mask[2, 2] = mask[4:7, 5:8] = mask[0, 10] = False
    filled = fill_holes(mask, 4)
    assert filled[2, 2]
    assert not filled[5, 6]
    assert not filled[0, 10], "an opening to the border is no hole"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.integers(2, 5))
def test_enlarged_labels_keep_the_centres(seed, factor):
    labels = np.random.default_rng(seed).integers(0, 4, size=(6, 7)).astype(np.int32)
    fine = enlarge_labels(labels, factor, (6 * factor, 7 * factor))
    assert fine.shape == (6 * factor, 7 * factor)
    if factor % 2:
        np.testing.assert_array_equal(fine[factor // 2 :: factor, factor // 2 :: factor], labels)
    assert set(np.unique(fine)) <= set(np.unique(labels))


def test_enlarged_border_runs_straight():
    # a half plane at 45 degrees: steps of the coarse raster would put 1 / 4 of a coarse pixel on the wrong side
    labels = np.tri(20, 20, dtype=np.int32)
    fine = enlarge_labels(labels, 4, (80, 80))
    stepped = np.kron(labels, np.ones((4, 4), dtype=np.int32))

    def jumps(border):
        return np.abs(np.diff(border)).max()

    assert jumps(stepped.sum(axis=1)) == 4
    assert jumps(fine.sum(axis=1)) < 4
