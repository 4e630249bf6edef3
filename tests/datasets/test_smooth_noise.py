"""Smooth noise against SciPy's B-splines and its own statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from sjg.datasets._smooth_noise import smooth_noise


@given(size=st.integers(1, 40), scale=st.floats(1, 25), seed=st.integers(0, 1000))
def test_equals_scipy_tensor_spline(size, scale, seed):
    field = smooth_noise(np.random.default_rng(seed), (size, 7), scale)
    position = (np.arange(size) + 0.5) / scale
    across = (np.arange(7) + 0.5) / scale
    coefficients = np.random.default_rng(seed).standard_normal((int(position[-1]) + 4, int(across[-1]) + 4))
    # uniform knots: coefficient k is centred on knot k - 1
    rows = BSpline(np.arange(-3, len(coefficients) + 1), coefficients, 3)(position)
    expected = BSpline(np.arange(-3, coefficients.shape[1] + 1), rows.T, 3)(across).T / (151 / 315)
    np.testing.assert_allclose(field, expected, atol=1e-9)


def test_unit_variance_and_correlation_length():
    field = smooth_noise(np.random.default_rng(0), (600, 600), 5.0)
    assert abs(field.mean()) < 0.05
    assert field.std() == pytest.approx(1, abs=0.03)
    near = np.corrcoef(field[:, :-1].ravel(), field[:, 1:].ravel())[0, 1]
    far = np.corrcoef(field[:, :-25].ravel(), field[:, 25:].ravel())[0, 1]
    assert near > 0.9
    assert abs(far) < 0.05
