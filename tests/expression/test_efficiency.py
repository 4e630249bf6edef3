"""Efficiencies of genes: planted ones are found, oracle, large counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm, poisson

from sjg.expression import gene_efficiency
from sjg.expression._efficiency import efficiencies


def _seen_by_another_assay(rng, here, spread):
    """Class means of an assay of other efficiencies, and the efficiencies of this one relative to it."""
    efficiency = np.exp(spread * rng.standard_normal(here.shape[1]))
    reference = here / efficiency
    return reference / reference.sum(1, keepdims=True), efficiency


@pytest.mark.parametrize("spread", [0.3, 0.6, 1.1])
@pytest.mark.parametrize("blind", [0.0, 0.06])
def test_planted_efficiencies_are_found(plant_profiles, spread, blind):
    rng = np.random.default_rng(3)
    here, shares = plant_profiles(rng), rng.dirichlet(np.full(6, 3.0))
    counts = rng.poisson(60_000 * ((1 - blind) * shares @ here + blind / 120)).astype(float)
    reference, truth = _seen_by_another_assay(rng, here, spread)
    found = gene_efficiency(reference, shares, counts)
    assert found.blind_fraction == pytest.approx(blind, abs=0.03)
    # genes that are hardly there tell nothing
    plenty = shares @ here > 0.003
    assert np.log(found.gene / truth)[plenty].std() < 0.12


@pytest.mark.parametrize("spread", [0.05, 0.3, 0.6, 1.1])
def test_the_spread_is_that_of_the_efficiencies(plant_profiles, spread):
    found = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        here, shares = plant_profiles(rng, n_genes=2000), rng.dirichlet(np.full(6, 3.0))
        reference, _ = _seen_by_another_assay(rng, here, spread)
        found.append(gene_efficiency(reference, shares, rng.poisson(400_000 * shares @ here).astype(float)).spread)
    assert np.mean(found) == pytest.approx(spread, rel=0.08)


@pytest.mark.parametrize("total", [2_000, 20_000, 200_000])
def test_of_the_same_assay_the_reference_stays_as_it_is(plant_profiles, plant_counts, total):
    rng = np.random.default_rng(0)
    profiles, shares = plant_profiles(rng), rng.dirichlet(np.full(6, 3.0))
    found = gene_efficiency(profiles, shares, plant_counts(rng, profiles, total * shares, blind=0.05).sum(0))
    assert found.spread < 0.06
    assert np.abs(np.log(found.gene)).max() < 0.08


def test_what_is_rare_in_both_is_not_taken_to_be_seen_badly(plant_profiles):
    # the excess of a gene in the reference is partly chance: on average genes abundant there are less so in the tissue
    rng = np.random.default_rng(8)
    here = plant_profiles(rng, 1, 400)
    reference, _ = _seen_by_another_assay(rng, here, 0.8)
    found = gene_efficiency(reference, np.ones(1), rng.poisson(100_000 * here[0]).astype(float))
    assert found.blind_fraction < 0.02
    assert np.log(found.gene * reference[0] / here[0]).std() < 0.25


def test_efficiencies_are_the_likeliest_ones_and_laplace_is_near_the_integral():
    rng = np.random.default_rng(1)
    expected = rng.dirichlet(np.full(40, 0.7)) + 1e-4
    expected /= expected.sum()
    counts = rng.poisson(3000 * expected * np.exp(0.5 * rng.standard_normal(40))).astype(float)
    spread, blind, total = 0.5, 0.1, counts.sum()
    theta, likelihood = efficiencies(expected, counts, spread, blind)
    x = np.log(expected)
    regression = min(spread**2 / x.var(), 0.75)
    usual = -regression * (x - np.average(x, weights=expected)) - spread**2 / 2
    sd = spread * np.sqrt(1 - regression)
    grid = np.linspace(-8, 8, 200_001)
    exact = 0.0
    for g in range(40):

        def log_joint(t, g=g):
            mean = total * (1 - blind) * expected[g] * np.exp(t) + total * blind / 40
            # less than that of a perfect fit
            return poisson.logpmf(counts[g], mean) - poisson.logpmf(counts[g], counts[g]) + norm.logpdf(t, usual[g], sd)

        best = minimize_scalar(lambda t, f=log_joint: -f(t), bounds=(usual[g] - 4, usual[g] + 4), method="bounded")
        assert theta[g] == pytest.approx(best.x, abs=1e-3)
        exact += np.log(np.trapezoid(np.exp(log_joint(grid)), grid))
    assert likelihood == pytest.approx(exact, abs=0.05 * 40)


@pytest.mark.parametrize("total", [1e5, 1e8, 1e10])
def test_nothing_hangs_on_the_order_of_the_genes_however_many_molecules(plant_profiles, total):
    rng = np.random.default_rng(2)
    here, shares = plant_profiles(rng), rng.dirichlet(np.full(6, 3.0))
    reference, truth = _seen_by_another_assay(rng, here, 0.6)
    counts = rng.poisson(total * shares @ here).astype(float)
    found = gene_efficiency(reference, shares, counts)
    order = rng.permutation(120)
    other = gene_efficiency(reference[:, order], shares, counts[order])
    np.testing.assert_allclose(other.gene, found.gene[order], rtol=1e-3)
    assert np.log(found.gene / truth)[shares @ here > 0.003].std() < 0.12


@pytest.mark.parametrize("much", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("total", [2_000, 200_000])
def test_genes_that_the_reference_lacks_do_not_count_for_the_others(plant_profiles, much, total):
    rng = np.random.default_rng(5)
    lacking = np.arange(120) >= 80
    profiles, shares = plant_profiles(rng) * np.where(lacking, much, 1.0), rng.dirichlet(np.full(6, 3.0))
    profiles /= profiles.sum(1, keepdims=True)
    counts = rng.poisson(total * shares @ profiles).astype(float)
    reference = profiles.copy()
    reference[:, lacking] = profiles[:, ~lacking].mean(1, keepdims=True)
    reference /= reference.sum(1, keepdims=True)
    found = gene_efficiency(reference, shares, counts, known=~lacking)
    alone = gene_efficiency(reference[:, ~lacking] / reference[:, ~lacking].sum(1, keepdims=True), shares, counts[~lacking])
    assert found.spread < max(0.1, 1.1 * alone.spread)
    assert np.log(found.gene)[~lacking].std() < 0.13
    if total > 10_000:
        weighted = reference * found.gene
        share = shares @ (weighted / weighted.sum(1, keepdims=True))
        plenty = lacking & (shares @ profiles > 0.003)
        np.testing.assert_allclose(share[plenty], (shares @ profiles)[plenty], rtol=0.25)


def test_a_wide_panel_is_told_by_more_molecules(plant_profiles):
    rng = np.random.default_rng(6)
    here, shares = plant_profiles(rng, 3, 4000), rng.dirichlet(np.full(3, 3.0))
    reference, truth = _seen_by_another_assay(rng, here, 1.1)
    few, many = (gene_efficiency(reference, shares, rng.poisson(n * shares @ here).astype(float)).gene for n in (1e6, 4e7))
    rare = shares @ here < 5e-5
    assert np.log(many / truth)[rare].std() < 0.6 * np.log(few / truth)[rare].std()
