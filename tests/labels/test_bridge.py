"""Bridging against a walk from every pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sjg.core import InputError
from sjg.labels import bridge_gaps

rasters = arrays(np.int32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=st.sampled_from([0, 0, 1, 2]))


def walk(labels, y, x, dy, dx):
    """The first label in a direction and the free pixels before it; 0 at the edge."""
    free = 0
    while True:
        y, x = y + dy, x + dx
        if not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]):
            return 0, free
        if labels[y, x]:
            return labels[y, x], free
        free += 1


@given(rasters, st.integers(0, 4), st.integers(0, 1000))
def test_gaps_are_bridged_along_rows_columns_and_diagonals(labels, max_gap, seed):
    territories = np.random.default_rng(seed).integers(0, 3, labels.shape)
    bridged = bridge_gaps(labels, territories, max_gap_px=max_gap)
    for y, x in np.ndindex(labels.shape):
        expected = labels[y, x]
        if expected == 0:
            for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                (i, before), (j, after) = walk(labels, y, x, dy, dx), walk(labels, y, x, -dy, -dx)
                if i and i == j == territories[y, x] and before + after + 1 <= max_gap:
                    expected = i
        assert bridged[y, x] == expected


def test_a_gap_is_no_negative_length():
    with pytest.raises(InputError, match="max_gap_px"):
        bridge_gaps(np.zeros((2, 2), int), np.zeros((2, 2), int), max_gap_px=-1)
