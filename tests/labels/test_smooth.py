"""Majority vote over 3 x 3, against a naive count."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sjg.core import InputError
from sjg.labels import smooth_outlines

RASTERS = arrays(np.int32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 3))


def naive(labels):
    padded = np.pad(labels, 1, mode="edge")
    out = labels.copy()
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            (best, most), *others = Counter(padded[y : y + 3, x : x + 3].ravel().tolist()).most_common()
            if not others or most > others[0][1]:
                out[y, x] = best
    return out


@given(RASTERS)
def test_equals_naive_count(labels):
    np.testing.assert_array_equal(smooth_outlines(labels, n_rounds=1), naive(labels))


@given(RASTERS, st.permutations([1, 2, 3]))
def test_relabelling_only_relabels(labels, order):
    new = np.array([0, *order], np.int32)
    np.testing.assert_array_equal(smooth_outlines(new[labels]), new[smooth_outlines(labels)])


def test_strips_do_not_matter(monkeypatch):
    from sjg.labels import _smooth

    labels = np.random.default_rng(0).integers(0, 4, (60, 40))
    whole = smooth_outlines(labels)
    monkeypatch.setattr(_smooth, "_STRIP_ROWS", 7)
    np.testing.assert_array_equal(smooth_outlines(labels), whole)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="integer"):
        smooth_outlines(np.zeros((2, 2)))
    with pytest.raises(InputError, match="n_rounds"):
        smooth_outlines(np.zeros((2, 2), int), n_rounds=-1)
