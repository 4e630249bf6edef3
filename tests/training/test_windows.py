"""Molecules of a window, against brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sjg.core import Molecules
from sjg.training._windows import MoleculeIndex, Window, tiles


@settings(max_examples=60, deadline=None)
@given(
    y0=st.integers(-90, 300),
    x0=st.integers(-90, 300),
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    seed=st.integers(0, 5),
)
def test_index_equals_brute_force(y0, x0, height, width, seed):
    rng = np.random.default_rng(seed)
    yx = rng.uniform(0, [150, 210], (300, 2)).astype(np.float32)
    molecules = Molecules(yx, np.zeros(300, np.int32), ("g",))
    window = Window(y0, x0, height, width)
    index = MoleculeIndex(molecules, (150, 210))
    np.testing.assert_array_equal(index.molecules.yx_px[index.place], yx)
    given_order = index.as_given(np.arange(300))
    np.testing.assert_array_equal(index.molecules.yx_px, yx[np.argsort(given_order)])
    found = np.sort(np.argsort(given_order)[index.inside(window)])
    inside = (yx[:, 0] >= y0) & (yx[:, 0] < y0 + height) & (yx[:, 1] >= x0) & (yx[:, 1] < x0 + width)
    np.testing.assert_array_equal(found, np.flatnonzero(inside))


@given(height=st.integers(1, 50), width=st.integers(1, 50), side=st.integers(1, 30))
def test_tiles_cover_once(height, width, side):
    covered = np.zeros((height, width), int)
    for window in tiles((height, width), side):
        covered[window.y0 : window.y0 + window.height, window.x0 : window.x0 + window.width] += 1
    assert (covered == 1).all()


def test_cut_fills_beyond_the_raster():
    raster = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(Window(-1, 1, 3, 3).cut(raster, fill=-7), [[-7, -7, -7], [1, 2, -7], [4, 5, -7]])
