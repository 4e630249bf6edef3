from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from sjg.core import InputError
from sjg.metrics import calibration_error, reliability


@st.composite
def decisions(draw):
    n = draw(st.integers(1, 60))
    confidence = np.array(draw(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n)))
    return confidence, np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))


def by_loops(confidence, correct, n_bins):
    """The definition, one bin and one decision after the other."""
    total = 0.0
    for k in range(n_bins):
        low, high = k / n_bins, (k + 1) / n_bins
        rows = [i for i, c in enumerate(confidence) if low < c <= high or (k == 0 and c == 0)]
        if rows:
            total += abs(sum(correct[i] for i in rows) - sum(confidence[i] for i in rows))
    return total / len(confidence)


@given(decisions(), st.sampled_from([1, 2, 4, 8]))
def test_equals_the_definition(pair, n_bins):
    assert calibration_error(*pair, n_bins=n_bins) == pytest.approx(by_loops(*pair, n_bins), abs=1e-12)


@given(decisions(), st.sampled_from([2, 4, 8]))
def test_bins_agree_with_scikit_learn(pair, n_bins):
    confidence, correct = pair
    # scikit-learn puts an inner edge into the bin above, so keep off the edges
    confidence = np.clip((np.floor(confidence * 1000) + 0.5) / 1001, 0, 1)
    found = reliability(confidence, correct, n_bins=n_bins)
    share, mean = calibration_curve(correct, confidence, n_bins=n_bins)
    filled = found.n > 0
    np.testing.assert_allclose(found.accuracy[filled], share)
    np.testing.assert_allclose(found.confidence[filled], mean)
    assert found.n.sum() == len(confidence)


@given(decisions(), st.integers(0, 99))
def test_range_and_order(pair, seed):
    confidence, correct = pair
    order = np.random.default_rng(seed).permutation(len(correct))
    value = calibration_error(confidence, correct)
    assert 0 <= value <= 1
    assert calibration_error(confidence[order], correct[order]) == pytest.approx(value)
    # finer bins can only show more
    assert value >= calibration_error(confidence, correct, n_bins=5) - 1e-12


def test_honest_probabilities_have_no_error_and_boasts_have_theirs():
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    correct = rng.random(200_000) < confidence
    assert calibration_error(confidence, correct) < 0.01
    assert calibration_error(np.full(200_000, 0.9), rng.random(200_000) < 0.7) == pytest.approx(0.2, abs=0.01)


def test_no_decisions():
    assert np.isnan(calibration_error([], []))


@pytest.mark.parametrize(
    ("confidence", "correct", "n_bins", "message"),
    [
        ([0.5], [True, False], 10, r"\(N,\)"),
        ([0.5], [1], 10, "bool"),
        ([1.5], [True], 10, r"\[0, 1\]"),
        ([np.nan], [True], 10, r"\[0, 1\]"),
        ([0.5], [True], 0, "n_bins"),
    ],
)
def test_refusals(confidence, correct, n_bins, message):
    with pytest.raises(InputError, match=message):
        calibration_error(confidence, correct, n_bins=n_bins)
