"""Deviations of types: planted ones are found, oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gamma, nbinom, poisson

from sjg.expression import type_deviation


def test_deviation_against_scipy(plant_profiles):
    rng = np.random.default_rng(5)
    expected = np.array([[900.0], [300.0], [3000.0]]) * plant_profiles(rng, 3, 30)
    counts = rng.poisson(expected * rng.gamma(1 / 0.4**2, 0.4**2, (3, 30))).astype(float)
    found = type_deviation(counts, expected)

    def likelihood(spread):
        size = spread**-2
        return nbinom.logpmf(counts, size, size / (size + expected)).sum()

    best = likelihood(found.spread)
    # its spread is rounded
    assert all(likelihood(found.spread * change) <= best + 0.05 for change in (0.8, 0.95, 1.05, 1.2))
    # posterior mean by numbers
    f = np.linspace(1e-4, 8, 40_001)
    weight = gamma.pdf(f, found.spread**-2, scale=found.spread**2) * poisson.pmf(counts[1, 4], f * expected[1, 4])
    assert found.factor[1, 4] == pytest.approx((f * weight).sum() / weight.sum(), rel=1e-3)


def test_planted_deviations_are_found_where_there_is_much_and_left_where_there_is_little(plant_profiles):
    rng = np.random.default_rng(2)
    profiles = plant_profiles(rng)
    truth = profiles * np.exp(0.6 * rng.standard_normal(profiles.shape))
    truth /= truth.sum(1, keepdims=True)
    n = np.array([[40_000], [40_000], [40_000], [40_000], [20], [0]])
    found = type_deviation(rng.poisson(n * truth).astype(float), n * profiles)
    assert found.spread == pytest.approx(0.6, rel=0.35)
    fitted = profiles * found.factor
    fitted /= fitted.sum(1, keepdims=True)
    before, after = (np.abs(shares - truth).sum(1) for shares in (profiles, fitted))
    assert (after[:4] < 0.2 * before[:4]).all()
    np.testing.assert_allclose(fitted[5], profiles[5])
    assert np.abs(np.log(found.factor[4])).max() < np.abs(np.log(found.factor[:4])).max()


@pytest.mark.parametrize("total", [100.0, 1e4, 1e7])
def test_profiles_that_are_right_stay(plant_profiles, total):
    rng = np.random.default_rng(0)
    expected = total * plant_profiles(rng)
    found = type_deviation(rng.poisson(expected).astype(float), expected)
    assert found.spread < 0.08
    assert np.abs(np.log(found.factor)).max() < 0.1
