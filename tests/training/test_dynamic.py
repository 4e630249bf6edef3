"""The label store against a plain array."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sjg.training._dynamic import UNKNOWN, DynamicLabels


@given(st.lists(st.lists(st.tuples(st.integers(0, 29), st.integers(-1, 4)), max_size=8), max_size=5))
def test_store_equals_an_array(steps):
    nuclei = np.zeros((5, 6), np.int32)
    nuclei[1, 2:4] = 3
    plain = np.where(nuclei > 0, nuclei, UNKNOWN).ravel()
    free = nuclei.ravel() == 0
    store = DynamicLabels(nuclei)
    for step in steps:
        kept = [(pixel, label) for pixel, label in step if free[pixel]]
        flat = np.array([pixel for pixel, _ in kept], np.int64)
        label = np.array([label for _, label in kept], np.int32)
        store.write(flat, label)
        for pixel, value in kept:
            plain[pixel] = value
    np.testing.assert_array_equal(store.read(np.arange(30)), plain)
    assert store.known_fraction == (plain != UNKNOWN).mean()
    again = DynamicLabels(nuclei)
    again.restore(*store.visited())
    np.testing.assert_array_equal(again.read(np.arange(30)), plain)
    assert again.known_fraction == store.known_fraction
