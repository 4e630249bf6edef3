from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sjg.imaging import Box, lay_patches, split_evenly


@given(height=st.integers(1, 300), width=st.integers(1, 300), side=st.integers(1, 120), overlap=st.floats(0, 0.6))
def test_cores_cover_the_image_once_and_lie_in_their_patches(height, width, side, overlap):
    layout = lay_patches((height, width), (side, 2 * side), overlap=overlap)
    cover = np.zeros((height, width), dtype=int)
    for index in range(len(layout)):
        core, box = layout.core(index), layout.box(index)
        cover[core.slices] += 1
        assert box.top <= core.top <= core.bottom <= box.bottom
        assert box.left <= core.left <= core.right <= box.right
        assert box.shape == layout.size
    assert (cover == 1).all()


@given(extent=st.integers(50, 400), side=st.integers(20, 49), overlap=st.floats(0, 0.5))
def test_neighbours_share_at_least_the_overlap(extent, side, overlap):
    layout = lay_patches((side, extent), (side, side), overlap=overlap)
    steps = np.diff(layout.column_starts)
    # one pixel for rounding the even spread
    assert (side - steps >= overlap * side - 1).all()
    assert layout.column_starts[-1] + side == extent


@pytest.mark.parametrize("layout", [lay_patches((90, 130), (40, 50), overlap=0.2), split_evenly((90, 131), (2, 2), overlap=0.1)])
def test_every_pixel_belongs_to_the_patch_whose_core_holds_it(layout):
    y, x = np.mgrid[: layout.shape[0], : layout.shape[1]] + 0.5
    owner = layout.owner(y.ravel(), x.ravel()).reshape(layout.shape)
    for index in range(len(layout)):
        assert (owner[layout.core(index).slices] == index).all()


def test_quarters_overlap_as_asked():
    layout = split_evenly((100, 190), (1, 2), overlap=0.1)
    assert layout.box(0) == Box(0, 0, 100, 100)
    assert layout.box(1) == Box(0, 90, 100, 190)


def test_grown_boxes_start_on_the_grain_and_stay_inside():
    box = Box(10, 20, 30, 40).grown(7, (33, 100), grain_px=4)
    assert box == Box(0, 12, 33, 47)
    assert Box(10, 20, 30, 40).inside(box) == (slice(10, 30), slice(8, 28))
