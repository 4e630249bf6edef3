"""Planted profiles and counts."""

from __future__ import annotations

import numpy as np
import pytest


def _profiles(rng, n_types=6, n_genes=120):
    means = np.exp(rng.normal(0, 1.0, n_genes) + rng.normal(0, 1.2, (n_types, n_genes)))
    return means / means.sum(1, keepdims=True)


def _counts(rng, profiles, totals, *, efficiency=1.0, ambient=0.0, blind=0.0):
    """(K, G) molecules in cells of each type, some of them of the tissue around, some of false calls."""
    weighted = profiles * efficiency
    weighted /= weighted.sum(1, keepdims=True)
    around = totals @ weighted / totals.sum()
    share = (1 - ambient - blind) * weighted + ambient * around + blind / profiles.shape[1]
    return rng.poisson(np.asarray(totals)[:, None] * share).astype(float)


@pytest.fixture(scope="session")
def plant_profiles():
    return _profiles


@pytest.fixture(scope="session")
def plant_counts():
    return _counts
