"""Territories against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sjg.core import InputError
from sjg.labels import class_of, territory

rasters = arrays(np.int32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.sampled_from([0, 0, 0, 1, 2, 7]))


@given(rasters, st.sampled_from([0, 1, 1.5, 3]))
def test_each_pixel_goes_to_a_nearest_instance_in_reach(labels, reach):
    found = territory(labels, reach)
    sources = np.argwhere(labels > 0)
    for y, x in np.ndindex(labels.shape):
        if labels[y, x]:
            assert found[y, x] == labels[y, x]
            continue
        away = ((sources - (y, x)) ** 2).sum(1)
        if len(away) == 0 or away.min() > reach**2:
            assert found[y, x] == 0
        else:
            assert found[y, x] in {labels[tuple(s)] for s in sources[away == away.min()]}


@given(rasters, st.permutations(range(1, 8)))
def test_relabelling_only_relabels(labels, order):
    new = np.array([0, *order])
    np.testing.assert_array_equal(territory(new[labels], 2), new[territory(labels, 2)])


def test_the_higher_id_has_no_advantage():
    assert territory(np.array([[1, 0, 0, 0, 9]]), 4).tolist() in ([[1, 1, 1, 9, 9]], [[1, 1, 9, 9, 9]])
    assert territory(np.array([[1, 0, 0, 0, 0, 9]]), 9).tolist() == [[1, 1, 1, 9, 9, 9]]


@pytest.mark.parametrize("reach", [-1, np.nan, np.inf])
def test_reach_must_be_a_length(reach):
    with pytest.raises(InputError, match="distance_px"):
        territory(np.zeros((2, 2), int), reach)


def test_every_id_needs_a_class():
    with pytest.raises(InputError, match="id 3"):
        class_of(np.array([[3]]), np.array([0, 1, 1]))
