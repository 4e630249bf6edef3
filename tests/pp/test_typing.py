from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import dirichlet_multinomial

from sjg.pp._typing import TypingParameters, as_counts, dirichlet_multinomial_log_likelihood, type_nuclei


@pytest.mark.parametrize(("n_transcripts", "n_types"), [(7, 8), (14, 20), (42, 20)])
def test_as_right_as_the_bayes_rule_that_knows_everything(planted_types, n_transcripts, n_types):
    counts, truth, profiles, oracle = planted_types(600, n_types, n_transcripts, efficiency_sd=0.5)
    posterior = type_nuclei(csr_matrix(counts), profiles)
    right = (posterior.argmax(axis=1) == truth).mean()
    assert right >= (oracle == truth).mean() - 0.03
    # the confidence means what it says
    assert posterior.max(axis=1).mean() == pytest.approx(right, abs=0.06)


def _right(posterior, truth):
    return (posterior.argmax(axis=1) == truth).mean()


def test_efficiencies_are_learned(planted_types):
    counts, truth, profiles, oracle = planted_types(1000, 15, 25, efficiency_sd=1.2, contrast=1.0, seed=3)
    learned = _right(type_nuclei(counts, profiles), truth)
    as_they_are = _right(type_nuclei(counts, profiles, parameters=TypingParameters(n_iterations=0)), truth)
    # most of what ignorance of the efficiencies costs comes back
    assert learned - as_they_are > 0.5 * ((oracle == truth).mean() - as_they_are) > 0.02


def test_frequencies_are_learned(planted_types):
    frequencies = 0.5 ** np.arange(8) / (0.5 ** np.arange(8)).sum()
    counts, truth, profiles, oracle = planted_types(1000, 8, 6, contrast=1.0, frequencies=frequencies)
    learned = _right(type_nuclei(counts, profiles), truth)
    uniform = _right(type_nuclei(counts, profiles, parameters=TypingParameters(uniform_frequencies=True)), truth)
    assert learned - uniform > 0.5 * ((oracle == truth).mean() - uniform) > 0.02


def test_nucleus_without_transcripts_gets_the_frequencies(planted_types):
    counts, _, profiles, _ = planted_types(300, 5, 30)
    posterior = type_nuclei(np.vstack([counts, np.zeros_like(counts[:1])]), profiles)
    np.testing.assert_allclose(posterior[-1], posterior[:-1].mean(axis=0), atol=0.02)
    nothing = type_nuclei(np.zeros((3, profiles.shape[1])), profiles)
    np.testing.assert_allclose(nothing, 1 / 5)


def test_a_zero_mean_does_not_rule_a_class_out():
    profiles = np.array([[10.0, 10.0, 0.0], [0.0, 1.0, 10.0]])
    posterior = type_nuclei(np.array([[9, 9, 1]]), profiles)
    assert posterior[0, 0] > 0.9


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_nuclei=st.integers(1, 6),
    n_types=st.integers(1, 6),
    n_genes=st.integers(1, 6),
    scale=st.floats(0.01, 100),
)
def test_properties(seed, n_nuclei, n_types, n_genes, scale):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2, size=(n_nuclei, n_genes))
    profiles = rng.gamma(0.3, size=(n_types, n_genes)) * (rng.random((n_types, n_genes)) < 0.7)
    posterior = type_nuclei(counts, profiles)
    assert posterior.shape == (n_nuclei, n_types)
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    order = rng.permutation(n_types)
    np.testing.assert_allclose(type_nuclei(counts, profiles[order]), posterior[:, order], atol=1e-9)
    genes = rng.permutation(n_genes)
    np.testing.assert_allclose(type_nuclei(counts[:, genes], profiles[:, genes]), posterior, atol=1e-8)
    np.testing.assert_allclose(type_nuclei(counts, profiles * scale), posterior, atol=1e-8)
    np.testing.assert_allclose(type_nuclei(csr_matrix(counts), profiles), posterior, atol=1e-9)


@pytest.mark.parametrize("concentration", [5.0, 80.0])
def test_dirichlet_multinomial_against_scipy(concentration):
    rng = np.random.default_rng(1)
    compositions = rng.dirichlet(np.ones(7), size=3)
    counts = rng.poisson(3, size=(20, 7))
    found = dirichlet_multinomial_log_likelihood(as_counts(counts), compositions, concentration)
    expected = np.stack([dirichlet_multinomial.logpmf(counts, concentration * p, counts.sum(axis=1)) for p in compositions], axis=1)
    # up to a constant for each row
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-8)


def test_overdispersed_counts_are_less_sure(planted_types):
    counts, _, profiles, _ = planted_types(200, 6, 20)
    sure = type_nuclei(counts, profiles, parameters=TypingParameters(concentration=np.inf)).max(axis=1).mean()
    assert type_nuclei(counts, profiles, parameters=TypingParameters(concentration=10.0)).max(axis=1).mean() < sure


@pytest.mark.parametrize(
    ("counts", "profiles", "match"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "profiles must be"),
        (np.ones((2, 3)), np.ones((0, 3)), "K >= 1"),
        (np.ones((2, 3)), -np.ones((1, 3)), "not negative"),
        (np.ones((2, 3)), np.full((1, 3), np.nan), "finite"),
        (-np.ones((2, 3)), np.ones((1, 3)), "counts must be finite"),
        (np.ones(3), np.ones((1, 3)), "counts must be"),
    ],
)
def test_refuses(counts, profiles, match):
    with pytest.raises(ValueError, match=match):
        type_nuclei(counts, profiles)


def test_types_of_a_reference_that_errs_are_found_again(planted_types):
    counts, truth, profiles, _ = planted_types(1500, 8, 25, contrast=0.5, seed=4)
    wrong = profiles * np.exp(np.random.default_rng(1).normal(0, 1.0, profiles.shape))
    trusted = _right(type_nuclei(counts, wrong, parameters=TypingParameters(n_revisions=0)), truth)
    revised = _right(type_nuclei(counts, wrong), truth)
    best = _right(type_nuclei(counts, profiles), truth)
    assert revised - trusted > 0.4 * (best - trusted) > 0.01


def test_a_reference_that_is_right_is_not_revised_to_the_worse(planted_types):
    for n_transcripts in (5, 25):
        counts, truth, profiles, _ = planted_types(1500, 8, n_transcripts, contrast=0.5, seed=5)
        trusted = _right(type_nuclei(counts, profiles, parameters=TypingParameters(n_revisions=0)), truth)
        assert _right(type_nuclei(counts, profiles), truth) > trusted - 0.005


def test_genes_that_the_reference_lacks_tell_types_once_they_are_learned(planted_types):
    counts, truth, profiles, _ = planted_types(2000, 8, 30, n_genes=120, contrast=1.0, seed=6)
    lacking = np.arange(120) >= 40
    known = np.where(lacking, profiles[:, ~lacking].mean(1, keepdims=True), profiles)
    without = _right(type_nuclei(counts, known, parameters=TypingParameters(n_revisions=0)), truth)
    every = _right(type_nuclei(counts, profiles), truth)
    assert _right(type_nuclei(counts, known), truth) - without > 0.4 * (every - without) > 0.02
