"""Cleaning of labels against one-label-at-a-time loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from sjg.core import InputError
from sjg.labels import fill_holes, keep_connected, keep_largest, label_pieces, relabel_sequential

rasters = arrays(np.int32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.integers(0, 3))
EIGHT = np.ones((3, 3), int)


@given(rasters)
def test_pieces(labels):
    pieces, n = label_pieces(labels)
    assert set(np.unique(pieces)) - {0} == set(range(1, n + 1))
    np.testing.assert_array_equal(pieces == 0, labels == 0)
    total = 0
    for i in np.unique(labels[labels > 0]):
        expected, count = ndimage.label(labels == i, EIGHT)
        total += count
        pairs = set(zip(expected[labels == i], pieces[labels == i], strict=True))
        assert len(pairs) == count == len({p for _, p in pairs})
    assert total == n


@given(rasters, st.randoms(use_true_random=False))
def test_keep_connected(labels, random):
    nuclei = np.where(np.reshape([random.random() < 0.3 for _ in range(labels.size)], labels.shape), labels, 0)
    expected = np.zeros_like(labels)
    for i in np.unique(labels[labels > 0]):
        pieces, n = ndimage.label(labels == i, EIGHT)
        kept = {int(p) for p in pieces[nuclei == i]}
        if not kept:
            areas = [(pieces == p).sum() for p in range(1, n + 1)]
            kept = {int(np.argmax(areas)) + 1}  # ndimage numbers in raster order
        expected[np.isin(pieces, list(kept))] = i
    np.testing.assert_array_equal(keep_connected(labels, nuclei), expected)
    np.testing.assert_array_equal(keep_largest(labels), keep_connected(labels, np.zeros_like(labels)))


@given(rasters)
def test_fill_holes(labels):
    expected = labels.copy()
    gaps, n = ndimage.label(labels == 0)
    for gap in range(1, n + 1):
        inside = gaps == gap
        y, x = np.nonzero(inside)
        if y.min() == 0 or x.min() == 0 or y.max() == labels.shape[0] - 1 or x.max() == labels.shape[1] - 1:
            continue
        around = np.unique(labels[ndimage.binary_dilation(inside) & ~inside])
        if len(around) == 1:
            expected[inside] = around[0]
    filled = fill_holes(labels)
    np.testing.assert_array_equal(filled, expected)
    assert filled.dtype == labels.dtype
    np.testing.assert_array_equal(fill_holes(filled), filled)


@given(rasters)
def test_fill_holes_fills_as_scipy_does_for_one_label(labels):
    one = (labels > 0).astype(np.uint16)
    np.testing.assert_array_equal(fill_holes(one) > 0, ndimage.binary_fill_holes(one))


@given(rasters, st.integers(1, 1000))
def test_relabel_sequential(labels, factor):
    new, old = relabel_sequential(labels * factor)
    np.testing.assert_array_equal(old[new], labels * factor)
    assert set(np.unique(new)) - {0} == set(range(1, len(old)))
    assert (np.diff(old) > 0).all()


@pytest.mark.parametrize("function", [fill_holes, keep_largest, label_pieces, relabel_sequential])
def test_no_integers_or_negative_ids_are_refused(function):
    with pytest.raises(InputError, match="integers"):
        function(np.zeros((2, 2)))
    with pytest.raises(InputError, match="negative"):
        function(np.full((2, 2), -1))


def test_keep_connected_refuses_two_frames():
    with pytest.raises(InputError, match="differ in shape"):
        keep_connected(np.zeros((2, 2), int), np.zeros((2, 3), int))
