"""Profiles as an assay shows them: efficiencies and deviations together, what comes from elsewhere, uncertain types."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sjg.expression import as_probabilities, fit_profiles
from sjg.pp._typing import type_nuclei


def _distance(found, truth):
    """(K,) sum of differences of shares."""
    return np.abs(found - truth).sum(1)


def test_genes_that_stay_in_the_nucleus_are_not_seen_better(plant_profiles, plant_counts):
    rng = np.random.default_rng(6)
    profiles, shares = plant_profiles(rng), rng.dirichlet(np.full(6, 3.0))
    nuclear = np.where(np.arange(120) < 24, 4.0, 1.0)
    in_nuclei = plant_counts(rng, profiles, 20_000 * shares, efficiency=nuclear)
    found = fit_profiles(profiles, in_nuclei, plant_counts(rng, profiles, 60_000 * shares).sum(0))
    assert _distance(found.whole, profiles).max() < 0.12
    # but known of what lies inside
    weighted = profiles * nuclear
    weighted /= weighted.sum(1, keepdims=True)
    assert np.median(np.abs(np.log(found.nuclear / weighted))[:, :24]) < 0.1


@pytest.mark.parametrize("ambient", [0.0, 0.15, 0.3])
def test_what_comes_from_elsewhere_is_not_taken_for_the_types_own(plant_counts, ambient):
    rng = np.random.default_rng(1)
    # types with genes of their own
    profiles = rng.gamma(0.3, size=(8, 120)) + 1e-4
    profiles /= profiles.sum(1, keepdims=True)
    found = fit_profiles(profiles, plant_counts(rng, profiles, np.full(8, 8000.0), ambient=ambient, blind=0.03))
    assert found.ambient_fraction == pytest.approx(ambient, abs=0.03)
    assert found.deviation.spread < 0.15
    assert _distance(found.whole, profiles).max() < 0.12


@pytest.mark.parametrize("missing", [0.1, 0.3, 0.5])
def test_markers_that_the_reference_does_not_know_are_not_taken_for_surroundings(plant_counts, missing):
    rng = np.random.default_rng(2)
    truth = rng.gamma(0.5, size=(8, 120)) + 1e-4
    truth /= truth.sum(1, keepdims=True)
    reference = np.where(rng.random(truth.shape) < missing, 0, truth)
    in_nuclei = plant_counts(rng, truth, np.full(8, 20_000.0), ambient=0.08)
    found = fit_profiles(as_probabilities(reference, in_nuclei.sum(0)), in_nuclei)
    assert found.ambient_fraction < 0.25
    before = _distance(as_probabilities(reference, in_nuclei.sum(0)), truth)
    assert _distance(found.whole, truth).mean() < 0.6 * before.mean()


def test_types_with_more_cytoplasm_do_not_make_their_genes_look_better_seen(plant_profiles, plant_counts):
    rng = np.random.default_rng(3)
    profiles, shares = plant_profiles(rng), np.full(6, 1 / 6)
    cytoplasm = np.array([3.0, 3.0, 1.0, 1.0, 1.0, 1.0])
    in_nuclei = plant_counts(rng, profiles, 20_000 * shares)
    around = plant_counts(rng, profiles, 60_000 * shares * cytoplasm)
    told = fit_profiles(profiles, in_nuclei, around.sum(0), shares_around=around.sum(1) / around.sum())
    untold = fit_profiles(profiles, in_nuclei, around.sum(0))
    assert _distance(told.whole, profiles).max() < 0.08 < _distance(untold.whole, profiles).max()


def test_molecules_of_one_neighbour_are_not_taken_for_the_types_own(plant_profiles):
    rng = np.random.default_rng(5)
    profiles = rng.gamma(0.3, size=(8, 120)) + 1e-4
    profiles /= profiles.sum(1, keepdims=True)
    around = 0.7 * np.roll(profiles, 1, axis=0) + 0.3 * profiles.mean(0)
    found = fit_profiles(profiles, rng.poisson(8000 * (0.92 * profiles + 0.08 * around)).astype(float))
    assert _distance(found.whole, profiles).max() < 0.12


def test_a_marker_that_the_reference_does_not_know_is_found(plant_counts):
    rng = np.random.default_rng(4)
    truth = rng.gamma(0.3, size=(8, 120)) + 1e-4
    truth /= truth.sum(1, keepdims=True)
    reference = truth.copy()
    best = truth.argmax(1)
    reference[np.arange(8), best] = 0
    given_shares = as_probabilities(reference, np.ones(120))
    found = fit_profiles(given_shares, plant_counts(rng, truth, np.full(8, 8000.0), ambient=0.08)).whole
    assert (np.abs(found - truth)[np.arange(8), best] < 0.3 * truth[np.arange(8), best]).all()
    assert (_distance(found, truth) < 0.8 * _distance(given_shares, truth)).all()


@pytest.mark.parametrize("n_transcripts", [4, 10])
def test_uncertain_types_do_not_look_like_deviations(n_transcripts):
    rng = np.random.default_rng(7)
    # four families of five types each
    profiles = np.repeat(rng.gamma(0.5, size=(4, 100)) + 0.01, 5, axis=0) * np.exp(0.5 * rng.standard_normal((20, 100)))
    profiles /= profiles.sum(1, keepdims=True)
    truth = rng.integers(20, size=4000)
    composition = 0.92 * profiles + 0.08 * profiles.mean(0)
    counts = np.stack([rng.multinomial(n_transcripts, composition[k]) for k in truth])
    posterior = type_nuclei(counts, profiles)
    soft = fit_profiles(profiles, (counts.T @ posterior).T)
    hard = fit_profiles(profiles, (counts.T @ np.eye(20)[posterior.argmax(1)]).T)
    assert _distance(soft.whole, profiles).max() < 0.05
    # else the test could not fail
    assert _distance(hard.whole, profiles).max() > 2 * _distance(soft.whole, profiles).max()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n_types=st.integers(1, 5), n_genes=st.integers(1, 8), rate=st.sampled_from([0.0, 0.02, 1.0, 300.0]))
def test_any_counts_give_profiles(seed, n_types, n_genes, rate):
    rng = np.random.default_rng(seed)
    in_nuclei = rng.poisson(rate, (n_types, n_genes)).astype(float)
    means = rng.gamma(0.3, size=(n_types, n_genes)) * (rng.random((n_types, n_genes)) < 0.7)
    profiles = as_probabilities(means, in_nuclei.sum(0))
    found = fit_profiles(profiles, in_nuclei, rng.poisson(3 * rate, n_genes).astype(float))
    for result in (found.whole, found.nuclear):
        assert np.isfinite(result).all()
        assert (result > 0).all()
        np.testing.assert_allclose(result.sum(1), 1)
    order = rng.permutation(n_types)
    np.testing.assert_allclose(
        fit_profiles(profiles[order], in_nuclei[order]).whole, fit_profiles(profiles, in_nuclei).whole[order], rtol=1e-3
    )


def test_a_class_without_genes_of_the_panel_has_the_composition_of_the_tissue():
    found = as_probabilities(np.array([[0.0, 0.0], [3.0, 1.0]]), np.array([10.0, 30.0]))
    np.testing.assert_allclose(found[0], [0.25, 0.75], atol=0.02)
    np.testing.assert_allclose(found.sum(1), 1)
