from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.segmentation import find_boundaries

from sjg.pl._overlay import gray_background, outline_mask, outline_width, paint_cells, typical_diameter

LABELS = arrays(np.int64, st.tuples(st.integers(2, 12), st.integers(2, 12)), elements=st.integers(0, 3))


@given(labels=LABELS)
def test_outlines_of_one_pixel_are_inner_boundaries(labels):
    # skimage's thick boundaries with full connectivity, inside of instances, are the same set
    assert np.array_equal(outline_mask(labels, 1), find_boundaries(labels, connectivity=2, mode="thick") & (labels > 0))


@given(labels=LABELS, width=st.integers(1, 3))
def test_wider_outlines_contain_narrow_ones_and_leave_the_background(labels, width):
    narrow, wide = outline_mask(labels, width), outline_mask(labels, width + 1)
    assert not (narrow & ~wide).any()
    assert not wide[labels == 0].any()


def test_painting_blends_inside_and_is_opaque_on_rims():
    labels = np.zeros((9, 9), dtype=np.int64)
    labels[2:7, 2:7] = 5
    canvas = np.full((9, 9, 3), 0.2, dtype=np.float32)
    paint_cells(canvas, labels, np.array([5]), np.array([[1.0, 0.0, 0.0]], np.float32), fill_alpha=0.5, outline_px=1)
    assert np.allclose(canvas[0, 0], 0.2)
    assert np.allclose(canvas[4, 4], [0.6, 0.1, 0.1])
    assert np.allclose(canvas[2, 2], [1, 0, 0])


def test_typical_diameter_and_width():
    labels = np.zeros((60, 60), dtype=np.int64)
    rows, columns = np.ogrid[:60, :60]
    labels[(rows - 30) ** 2 + (columns - 30) ** 2 <= 20**2] = 1
    assert abs(typical_diameter(labels) - 40) < 1
    assert typical_diameter(np.zeros((3, 3), dtype=np.int64)) == 0
    assert outline_width(labels, 10) == 2  # 7 % of 40
    assert outline_width(labels[::10, ::10], 10) == 0


def test_background_is_scaled_and_finite():
    image = np.array([[0.0, 100.0], [np.nan, 50.0]], dtype=np.float32)
    gray = gray_background(image, (2, 2))
    assert np.isfinite(gray).all()
    assert gray[0, 0, 0] < 0.02 < gray[1, 1, 0] < gray[0, 1, 0] <= 0.9
    assert not gray_background(None, (2, 3)).any()
    assert np.isfinite(gray_background(np.full((2, 2), 7.0, np.float32), (2, 2))).all()
