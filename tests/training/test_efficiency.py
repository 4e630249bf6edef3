"""Efficiencies of genes and deviations of types: planted ones are found, oracles, properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import gamma, nbinom, norm, poisson

from sjg.training._efficiency import _efficiencies, as_probabilities, fit_profiles, gene_efficiency, type_deviation


def _profiles(rng, n_types=6, n_genes=120):
    means = np.exp(rng.normal(0, 1.0, n_genes) + rng.normal(0, 1.2, (n_types, n_genes)))
    return means / means.sum(1, keepdims=True)


def _seen(rng, profiles, efficiency, shares, *, total=60_000, blind=0.0):
    """(K, G) counts of cells of each type by an assay of its own efficiencies."""
    weighted = profiles * efficiency
    weighted /= weighted.sum(1, keepdims=True)
    return rng.poisson(total * shares[:, None] * ((1 - blind) * weighted + blind / profiles.shape[1])).astype(float)


@pytest.mark.parametrize("spread", [0.3, 0.6, 1.1])
@pytest.mark.parametrize("blind", [0.0, 0.06])
def test_planted_efficiencies_are_found(spread, blind):
    rng = np.random.default_rng(3)
    here, shares = _profiles(rng), rng.dirichlet(np.full(6, 3.0))
    counts = rng.poisson(60_000 * ((1 - blind) * shares @ here + blind / 120)).astype(float)
    # the reference is what another assay saw of the same types
    truth = np.exp(spread * rng.standard_normal(120))
    reference = here / truth
    reference /= reference.sum(1, keepdims=True)
    found = gene_efficiency(reference, shares, counts)
    assert found.spread == pytest.approx(spread, rel=0.3)
    assert found.blind_fraction == pytest.approx(blind, abs=0.03)
    error = np.log(found.gene / truth)
    # genes that are hardly there tell nothing
    plenty = shares @ here > 0.003
    assert error[plenty].std() < 0.12


def test_of_the_same_assay_the_reference_stays_as_it_is():
    rng = np.random.default_rng(0)
    profiles, shares = _profiles(rng), rng.dirichlet(np.full(6, 3.0))
    for total in (2_000, 20_000, 200_000):
        counts = _seen(rng, profiles, np.ones(120), shares, total=total, blind=0.05)
        found = gene_efficiency(profiles, shares, counts.sum(0))
        assert found.spread < 0.06
        assert np.abs(np.log(found.gene)).max() < 0.08
        deviation = type_deviation(counts, profiles, np.full(120, 0.05 / 120))
        assert deviation.spread < 0.06
        assert np.abs(np.log(deviation.factor)).max() < 0.1


def test_what_is_rare_in_both_is_not_taken_to_be_seen_badly():
    # the excess of a gene in the reference is partly chance: on average genes abundant there are less so in the tissue
    rng = np.random.default_rng(8)
    truth = _profiles(rng, 1, 400)
    reference = truth * np.exp(0.8 * rng.standard_normal(400))
    reference /= reference.sum()
    counts = rng.poisson(100_000 * truth[0]).astype(float)
    found = gene_efficiency(reference, np.ones(1), counts)
    assert found.blind_fraction < 0.02
    assert np.log(found.gene * reference[0] / truth[0]).std() < 0.25


def test_efficiencies_are_the_likeliest_ones_and_laplace_is_near_the_integral():
    rng = np.random.default_rng(1)
    expected = rng.dirichlet(np.full(40, 0.7)) + 1e-4
    expected /= expected.sum()
    counts = rng.poisson(3000 * expected * np.exp(0.5 * rng.standard_normal(40))).astype(float)
    spread, blind, total = 0.5, 0.1, counts.sum()
    theta, likelihood = _efficiencies(expected, counts, spread, blind)
    x = np.log(expected)
    regression = min(spread**2 / x.var(), 0.75)
    usual = -regression * (x - np.average(x, weights=expected))
    sd = spread * np.sqrt(1 - regression)
    grid = np.linspace(-8, 8, 200_001)
    exact = 0.0
    for g in range(40):

        def log_joint(t, g=g):
            mean = total * (1 - blind) * expected[g] * np.exp(t) + total * blind / 40
            return poisson.logpmf(counts[g], mean) + norm.logpdf(t, usual[g], sd)

        best = minimize_scalar(lambda t, f=log_joint: -f(t), bounds=(usual[g] - 4, usual[g] + 4), method="bounded")
        assert theta[g] == pytest.approx(best.x, abs=1e-3)
        exact += np.log(np.trapezoid(np.exp(log_joint(grid)), grid))
    # up to the constant that does not depend on spread and share
    constant = -sum(np.log(np.arange(1, c + 1)).sum() for c in counts.astype(int))
    assert likelihood + constant == pytest.approx(exact, abs=0.05 * 40)


def test_deviation_against_scipy():
    rng = np.random.default_rng(5)
    profiles = _profiles(rng, 3, 30)
    foreign = 0.1 * rng.dirichlet(np.ones(30))
    factor = rng.gamma(1 / 0.4**2, 0.4**2, (3, 30))
    expected = np.array([[900.0], [300.0], [3000.0]]) * (0.9 * profiles + foreign)
    counts = rng.poisson(expected * factor).astype(float)
    expected *= counts.sum(1, keepdims=True) / np.array([[900.0], [300.0], [3000.0]])
    found = type_deviation(counts, profiles, foreign)

    def likelihood(spread):
        size = spread**-2
        return nbinom.logpmf(counts, size, size / (size + expected)).sum()

    best = likelihood(found.spread)
    assert all(likelihood(found.spread * change) <= best + 1e-3 for change in (0.9, 0.98, 1.02, 1.1))
    # posterior mean by numbers
    f = np.linspace(1e-4, 8, 40_001)
    weight = gamma.pdf(f, found.spread**-2, scale=found.spread**2) * poisson.pmf(counts[1, 4], f * expected[1, 4])
    assert found.factor[1, 4] == pytest.approx((f * weight).sum() / weight.sum(), rel=1e-3)


def test_planted_deviations_are_found_where_there_is_much_and_left_where_there_is_little():
    rng = np.random.default_rng(2)
    profiles = _profiles(rng)
    truth = profiles * np.exp(0.6 * rng.standard_normal(profiles.shape))
    truth /= truth.sum(1, keepdims=True)
    n = np.array([40_000, 40_000, 40_000, 40_000, 20, 0])
    counts = rng.poisson(n[:, None] * truth).astype(float)
    found = type_deviation(counts, profiles, np.zeros(120))
    assert found.spread == pytest.approx(0.6, rel=0.35)
    fitted = profiles * found.factor
    fitted /= fitted.sum(1, keepdims=True)

    def distance(a, k):
        return np.abs(a[k] - truth[k]).sum()

    for k in range(4):
        assert distance(fitted, k) < 0.2 * distance(profiles, k)
    np.testing.assert_allclose(fitted[5], profiles[5])
    assert np.abs(np.log(found.factor[4])).max() < np.abs(np.log(found.factor[:4])).max()


def test_genes_that_stay_in_the_nucleus_are_not_seen_better():
    rng = np.random.default_rng(6)
    profiles, shares = _profiles(rng), rng.dirichlet(np.full(6, 3.0))
    nuclear = np.where(np.arange(120) < 24, 4.0, 1.0)
    inside = _seen(rng, profiles, nuclear, shares, total=20_000)
    around = _seen(rng, profiles, np.ones(120), shares, total=60_000).sum(0)
    found = fit_profiles(profiles, inside, around)
    assert np.abs(np.log(found.whole / profiles)).max() < 0.25
    # but known of what lies inside
    weighted = profiles * nuclear
    weighted /= weighted.sum(1, keepdims=True)
    assert np.median(np.abs(np.log(found.inside / weighted))[:, :24]) < 0.1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n_types=st.integers(1, 5), n_genes=st.integers(1, 8), rate=st.sampled_from([0.02, 1.0, 300.0]))
def test_any_counts_give_profiles(seed, n_types, n_genes, rate):
    rng = np.random.default_rng(seed)
    inside = rng.poisson(rate, (n_types, n_genes)).astype(float)
    inside[0, 0] += 1
    means = rng.gamma(0.3, size=(n_types, n_genes)) * (rng.random((n_types, n_genes)) < 0.7) + 1e-9
    profiles = as_probabilities(means, inside.sum(0))
    found = fit_profiles(profiles, inside, rng.poisson(3 * rate, n_genes).astype(float))
    for result in (found.whole, found.inside):
        assert np.isfinite(result).all()
        assert (result > 0).all()
        np.testing.assert_allclose(result.sum(1), 1)
    order = rng.permutation(n_types)
    np.testing.assert_allclose(fit_profiles(profiles[order], inside[order]).whole, fit_profiles(profiles, inside).whole[order], rtol=1e-3)


def test_a_class_without_genes_of_the_panel_has_the_composition_of_the_tissue():
    found = as_probabilities(np.array([[0.0, 0.0], [3.0, 1.0]]), np.array([10.0, 30.0]))
    np.testing.assert_allclose(found[0], [0.25, 0.75], atol=0.02)
    np.testing.assert_allclose(found.sum(1), 1)
