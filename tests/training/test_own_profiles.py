"""Expression of single cells against naive counting and planted dispersions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sjg.core import generator
from sjg.training._own_profiles import OwnCounts, fit_own_profiles
from sjg.training._parameters import Parameters
from sjg.training._state import CellState, initial_state
from sjg.training._tissue import Tissue


@pytest.fixture
def state(planted):
    tissue = Tissue(planted.molecules, planted.nuclei, Parameters())
    return initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, planted.types, Parameters(), device=torch.device("cpu"))


def expected_profile(theta, counts, alpha):
    """Gamma-Poisson factors of one cell, gene by gene, brought back to sum 1."""
    factor = np.array([(alpha + n) / (alpha + counts.sum() * t) for n, t in zip(counts, theta, strict=True)])
    return theta * factor / (theta * factor).sum()


def test_each_molecule_is_judged_by_the_others(planted, state):
    own = fit_own_profiles(state, planted.true_cell, planted.molecules.gene, rng=generator(0))
    own = dataclasses.replace(own, inverse_dispersion=4.0)
    molecule = np.flatnonzero(planted.true_cell > 0)[:60]
    home = planted.true_cell[molecule].astype(np.int64) - 1
    candidate = np.stack([home, (home + 1) % len(state.density)], 1)
    gene = planted.molecules.gene[molecule]
    found = own.probability(state, candidate, gene, molecule).numpy()
    index, weight = (a.numpy() for a in state.leading_types())
    theta = np.einsum("nt,ntg->ng", weight, state.profiles.numpy()[index])
    for p, m in enumerate(molecule):
        for k, cell in enumerate(candidate[p]):
            others = (planted.true_cell == cell + 1) & (np.arange(len(planted.true_cell)) != m)
            counts = np.bincount(planted.molecules.gene[others], minlength=12)
            assert found[p, k] == pytest.approx(expected_profile(theta[cell], counts, 4.0)[gene[p]], rel=1e-4)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 3.0, 80.0, 1e6]))
def test_probabilities_of_all_genes_sum_to_one(seed, alpha):
    rng = np.random.default_rng(seed)
    n_genes = 7
    theta = rng.dirichlet(np.full(n_genes, 0.5)) + 1e-6
    counts = rng.poisson(3, n_genes)
    theta /= theta.sum()

    def total(*, itself):
        """Over genes that the next molecule might have; a cell that holds it has one more of that gene."""
        p = 0.0
        for gene in range(n_genes):
            table = counts + (np.arange(n_genes) == gene) * itself
            one = {"itself": torch.tensor([[itself]]), "gene": torch.tensor([gene]), "local": torch.tensor([[0]])}
            table, by_type = (torch.tensor(a[None], dtype=torch.float32) for a in (table, theta))
            p += float(OwnCounts(**one, table=table, theta=by_type).probability(alpha))
        return p

    assert total(itself=False) == pytest.approx(1, abs=1e-4)
    assert total(itself=True) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("alpha", [1.0, 5.0, np.inf])
def test_a_planted_dispersion_is_found(alpha):
    rng = np.random.default_rng(3)
    n_cells, n_genes = 300, 40
    profile = rng.dirichlet(np.ones(n_genes))
    factor = np.ones((n_cells, n_genes)) if np.isinf(alpha) else rng.gamma(alpha, 1 / alpha, (n_cells, n_genes))
    counts = rng.poisson(150 * profile * factor)
    cell, gene = (np.repeat(a.ravel(), counts.ravel()) for a in np.indices(counts.shape))
    profiles = torch.tensor(profile[None], dtype=torch.float32)
    one = torch.ones(n_cells, 1)
    state = CellState(one, one, one[:, 0], profiles, profiles, profiles[0], profiles[0])
    own = fit_own_profiles(state, (cell + 1).astype(np.int32), gene.astype(np.int32), rng=generator(0))
    assert own.inverse_dispersion >= 40 if np.isinf(alpha) else alpha / 2 < own.inverse_dispersion < 2 * alpha


def test_single_molecules_say_nothing_of_dispersion():
    one = torch.ones(200, 1)
    profiles = torch.full((1, 12), 1 / 12)
    state = CellState(one, one, one[:, 0], profiles, profiles, profiles[0], profiles[0])
    for seed in range(6):
        gene = np.random.default_rng(seed).integers(0, 12, 200).astype(np.int32)
        assert fit_own_profiles(state, np.arange(1, 201, dtype=np.int32), gene, rng=generator(0)).inverse_dispersion == 1e6


def test_no_assigned_molecule_gives_no_own_profiles(planted, state):
    assert fit_own_profiles(state, np.zeros_like(planted.true_cell), planted.molecules.gene, rng=generator(0)) is None
