"""Stitching against the labels that were cut up."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import relabel_sequential

from sjg.imaging import Box, Stitcher, lay_patches
from sjg.metrics import f1_at_iou


def _disks(shape, radius, seed, count=60):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, dtype=np.int32)
    for centre in rng.uniform((0, 0), shape, (count, 2)):
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
        if not labels[inside].any():
            labels[inside] = labels.max() + 1
    return labels


def _stitch(truth, layout, halo, *, processed=None, shuffle=None):
    processed = np.ones(len(layout), dtype=bool) if processed is None else processed
    out = np.zeros(truth.shape, dtype=np.int32)
    stitcher = Stitcher(layout, processed, {"cells": out})
    windows = {}
    for index in np.flatnonzero(processed):
        outer = layout.box(index).grown(halo, truth.shape)
        windows[index] = outer, {"cells": relabel_sequential(truth[outer.slices])[0].astype(np.int32)}
    for index, (outer, labels) in windows.items():
        stitcher.add(index, outer, labels)
    late = sum(stitcher.fill_gaps(index, outer, labels, slack_px=halo) for index, (outer, labels) in windows.items())
    return out, stitcher, late


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), side=st.integers(30, 90), overlap=st.floats(0, 0.3))
def test_no_object_is_cut_lost_or_doubled(seed, side, overlap):
    truth = _disks((150, 170), 6, seed)
    out, stitcher, late = _stitch(truth, lay_patches(truth.shape, (side, side), overlap=overlap), halo=14)
    assert f1_at_iou(truth, out, iou=1.0) == 1.0
    assert stitcher.n_objects == truth.max()
    assert stitcher.n_beyond == late == 0


def test_objects_whose_centre_lies_in_a_skipped_patch_are_whole_too():
    truth = np.zeros((20, 40), dtype=np.int32)
    truth[5:15, 16:26] = 1
    layout = lay_patches(truth.shape, (20, 20), overlap=0)
    out, _, _ = _stitch(truth, layout, halo=10, processed=np.array([True, False]))
    np.testing.assert_array_equal(out > 0, truth > 0)


def test_what_each_window_leaves_to_the_other_is_written_late():
    layout = lay_patches((10, 40), (10, 20), overlap=0)
    out = np.zeros((10, 40), dtype=np.int32)
    stitcher = Stitcher(layout, np.ones(2, dtype=bool), {"cells": out})
    left, right = np.zeros((10, 30), dtype=np.int32), np.zeros((10, 30), dtype=np.int32)
    left[3:7, 18:24] = 1  # centre at 21: the right one's
    right[3:7, 6:12] = 1  # centre at 19: the left one's
    windows = {0: (Box(0, 0, 10, 30), {"cells": left}), 1: (Box(0, 10, 10, 40), {"cells": right})}
    assert sum(stitcher.add(index, *window) for index, window in windows.items()) == 0
    assert [stitcher.fill_gaps(index, *window, slack_px=3) for index, window in windows.items()] == [1, 0]
    assert np.unique(out).tolist() == [0, 1]
    np.testing.assert_array_equal(out[:, :30], left)


def test_an_object_seen_twice_is_written_once():
    layout = lay_patches((10, 40), (10, 20), overlap=0)
    out = np.zeros((10, 40), dtype=np.int32)
    stitcher = Stitcher(layout, np.ones(2, dtype=bool), {"cells": out})
    left, right = np.zeros((10, 30), dtype=np.int32), np.zeros((10, 30), dtype=np.int32)
    left[3:7, 16:23] = 1  # centre 19.5
    right[3:7, 7:14] = 1  # the same, a pixel further: centre 20.5
    stitcher.add(0, Box(0, 0, 10, 30), {"cells": left})
    stitcher.add(1, Box(0, 10, 10, 40), {"cells": right})
    assert out.max() == 1


def test_cells_follow_their_nuclei():
    layout = lay_patches((10, 40), (10, 20), overlap=0)
    nuclei, cells = (np.zeros((10, 40), dtype=np.int32) for _ in range(2))
    nuclei[4:6, 18:20] = 1
    cells[2:8, 14:34] = 1  # its centre lies on the other side
    out = {"nuclei": np.zeros((10, 40), dtype=np.int32), "cells": np.zeros((10, 40), dtype=np.int32)}
    stitcher = Stitcher(layout, np.ones(2, dtype=bool), out)
    for index, outer in enumerate((Box(0, 0, 10, 38), Box(0, 2, 10, 40))):
        stitcher.add(index, outer, {"nuclei": nuclei[outer.slices], "cells": cells[outer.slices]})
    np.testing.assert_array_equal(out["nuclei"], nuclei)
    np.testing.assert_array_equal(out["cells"], cells)


def test_objects_that_the_window_cuts_are_counted():
    truth = np.zeros((20, 60), dtype=np.int32)
    truth[5:15, 5:55] = 1
    _, stitcher, _ = _stitch(truth, lay_patches(truth.shape, (20, 20), overlap=0), halo=2)
    # each of the three windows holds a piece that goes on beyond it
    assert stitcher.n_beyond == 3
