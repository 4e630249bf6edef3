"""Where simulated types live and what they express."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from sjg.core import generator
from sjg.datasets._simulate_types import organise_types, sampled_profiles, synthetic_profiles


def same_type_neighbours(centres, types):
    _, neighbour = cKDTree(centres).query(centres, k=6)
    return (types[neighbour[:, 1:]] == types[:, None]).mean()


def test_mixing_goes_from_regions_to_chance():
    centres = np.random.default_rng(0).random((1500, 2)) * 400
    drawn = {
        mixing: organise_types(generator(0, 1), (400, 400), centres, n_cell_types=6, scale_px=90, mixing=mixing) for mixing in (0, 1, 50)
    }
    purity = [same_type_neighbours(centres, types) for types in drawn.values()]
    assert purity[0] > 0.85
    assert purity[0] > purity[1] + 0.15
    abundance = np.bincount(drawn[50], minlength=6) / 1500
    assert purity[2] == pytest.approx((abundance**2).sum(), abs=0.05)


def test_one_type():
    assert not organise_types(generator(0, 1), (50, 50), np.ones((4, 2)), n_cell_types=1, scale_px=20, mixing=1).any()


def test_planted_markers_mark():
    profiles = synthetic_profiles(generator(3, 1), n_cell_types=5, n_genes=60, n_markers_per_type=3)
    np.testing.assert_allclose(profiles.means.sum(axis=1), 1)
    assert len(set(profiles.gene_names)) == 60
    np.testing.assert_array_equal(np.bincount(profiles.marker_of + 1), [45, 3, 3, 3, 3, 3])
    for gene in np.flatnonzero(profiles.marker_of >= 0):
        own = profiles.means[profiles.marker_of[gene], gene]
        others = np.delete(profiles.means[:, gene], profiles.marker_of[gene])
        assert own > 4 * others.max()


def test_sampled_profiles_are_rows_of_the_reference():
    means = np.random.default_rng(0).gamma(1, 1, (9, 30))
    means[4] = 0
    types, genes = tuple(f"t{i}" for i in range(9)), tuple(f"g{i}" for i in range(30))
    profiles = sampled_profiles(generator(0, 1), means, types, genes, n_cell_types=20, n_genes=12)
    assert "t4" not in profiles.type_names
    assert len(profiles.type_names) == 8
    assert len(profiles.gene_names) == 12
    rows = means[np.ix_([types.index(t) for t in profiles.type_names], [genes.index(g) for g in profiles.gene_names])]
    np.testing.assert_allclose(profiles.means, rows / rows.sum(axis=1, keepdims=True), rtol=1e-6)
