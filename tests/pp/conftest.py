"""Planted types."""

from __future__ import annotations

import numpy as np
import pytest


def _types(n_nuclei, n_types, n_transcripts, *, n_genes=60, seed=0, efficiency_sd=0.0, noise=0.08, contrast=0.15, frequencies=None):
    """Counts, true codes, profiles of the reference, and codes by the Bayes rule that knows everything."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(contrast, size=(n_types, n_genes)) + 0.002
    in_situ = profiles * np.exp(rng.normal(0, efficiency_sd, n_genes))
    in_situ /= in_situ.sum(axis=1, keepdims=True)
    composition = (1 - noise) * in_situ + noise * in_situ.mean(axis=0)
    truth = rng.choice(n_types, size=n_nuclei, p=frequencies)
    totals = rng.poisson(rng.gamma(4, n_transcripts / 4, n_nuclei))
    counts = np.stack([rng.multinomial(total, composition[code]) for total, code in zip(totals, truth, strict=True)])
    prior = np.zeros(n_types) if frequencies is None else np.log(frequencies)
    return counts, truth, profiles, (counts @ np.log(composition).T + prior).argmax(axis=1)


@pytest.fixture(scope="session")
def planted_types():
    """Function that plants types."""
    return _types
