from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.optimize import linear_sum_assignment

from sjg.metrics._pairing import optimal_pairs

weights = arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 9))


def check(weight):
    row, column = np.nonzero(weight)
    chosen = optimal_pairs(row, column, weight[row, column])
    assert len(np.unique(row[chosen])) == len(np.unique(column[chosen])) == chosen.sum()
    best = weight[linear_sum_assignment(weight, maximize=True)].sum()
    assert weight[row, column][chosen].sum() == pytest.approx(best, abs=1e-9)


@given(weights)
def test_total_equals_the_dense_hungarian_algorithm(weight):
    check(weight)


@pytest.mark.parametrize("seed", range(3))
def test_large_sparse_problem_with_real_weights(seed):
    rng = np.random.default_rng(seed)
    check(rng.random((150, 140)) * (rng.random((150, 140)) < 0.03))


def test_negative_and_zero_weights_are_never_chosen():
    chosen = optimal_pairs(np.array([0, 1]), np.array([0, 1]), np.array([0.0, -1.0]))
    assert not chosen.any()


def test_no_edges():
    empty = np.zeros(0, dtype=np.intp)
    assert optimal_pairs(empty, empty, np.zeros(0)).shape == (0,)
