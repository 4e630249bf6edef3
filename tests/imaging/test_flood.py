from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import watershed

from sjg.imaging._flood import flood
from sjg.metrics import f1_at_iou


def _landscape(shape, seed=0):
    heights = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3).astype(np.float32)
    seeds, _ = ndimage.label(heights == ndimage.minimum_filter(heights, 9))
    return heights, seeds


@pytest.mark.parametrize("shape", [(150, 170), (20, 60, 70)])
def test_is_the_watershed_of_scikit_image(shape):
    heights, seeds = _landscape(shape)
    mask = heights < 0.05
    for where in (None, mask):
        expected = watershed(heights, seeds, mask=where)
        found = flood(heights, seeds, mask=where)
        np.testing.assert_array_equal(found > 0, expected > 0)
        # what differs by less than the steps of the height may fall to either side
        assert (found != expected).mean() < 1e-3


def test_a_window_gets_the_labels_of_the_whole():
    # a terrace of whole numbers is nothing but ties, within the seeds too
    heights = np.rint(_landscape((240, 260))[0] * 20)
    seeds, _ = ndimage.label(heights <= -6)
    whole = flood(heights, seeds)
    window = (slice(40, 200), slice(30, 220))
    inner = (slice(50, -50),) * 2
    assert f1_at_iou(whole[window][inner], flood(heights[window], seeds[window])[inner], iou=1.0) == 1.0


def test_equal_heights_are_shared_by_distance():
    seeds = np.zeros((1, 9), dtype=int)
    seeds[0, [0, 8]] = 1, 2
    assert flood(np.zeros((1, 9)), seeds).tolist() == [[1, 1, 1, 1, 1, 2, 2, 2, 2]]


def test_lower_places_come_first_whatever_their_sign():
    seeds = np.array([[1, 0, 0, 0, 2]])
    for heights in ([0.0, 0.5, 2.0, 3.0, 0.0], [-4.0, -3.5, -2.0, -1.0, -4.0], [-1.0, -0.0, 0.0, 1.0, -1.0]):
        assert flood(np.array([heights]), seeds).tolist() == [[1, 1, 1, 2, 2]]


def test_nothing_to_flood():
    empty = np.zeros((3, 4), dtype=int)
    assert not flood(np.ones((3, 4)), empty).any()
    assert not flood(np.ones((3, 4)), empty + 1, mask=np.zeros((3, 4), dtype=bool)).any()
