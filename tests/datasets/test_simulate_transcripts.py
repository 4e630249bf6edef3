"""Counts and positions of simulated transcripts against the distributions they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sjg.core import generator
from sjg.datasets._simulate_transcripts import diffuse, draw_counts, place_in_cells, place_noise


def test_counts_have_the_mean_and_variance_asked_for():
    n, mean = 20_000, 30.0
    area = np.full(n, 100)
    cell, gene = draw_counts(
        generator(0, 1),
        np.array([[0.7, 0.3]]),
        np.zeros(n, int),
        area,
        transcripts_per_cell=mean,
        size_dispersion=0.2,
        gene_dispersion=0.5,
    )
    counts = np.zeros((n, 2))
    np.add.at(counts, (cell, gene), 1)
    np.testing.assert_allclose(counts.mean(axis=0), [21, 9], rtol=0.03)
    # Poisson with a product of two gamma factors: var = m + m^2 ((1 + a)(1 + b) - 1)
    m = np.array([21.0, 9.0])
    np.testing.assert_allclose(counts.var(axis=0), m + m**2 * (1.2 * 1.5 - 1), rtol=0.08)


def test_counts_without_spread_are_poisson_and_follow_area():
    area = np.repeat([50, 150], 5000)
    cell, _ = draw_counts(
        generator(0, 1), np.ones((1, 1)), np.zeros(10_000, int), area, transcripts_per_cell=20, size_dispersion=0, gene_dispersion=0
    )
    total = np.bincount(cell, minlength=10_000)
    for part, expected in ((total[:5000], 10), (total[5000:], 30)):
        assert part.mean() == pytest.approx(expected, rel=0.03)
        assert part.var() == pytest.approx(expected, rel=0.08)


def test_positions_lie_in_the_cell_and_nuclear_genes_in_the_nucleus():
    cells = np.zeros((40, 60), np.int32)
    cells[5:35, 5:25], cells[5:35, 30:55] = 1, 2
    nuclei = np.zeros_like(cells)
    nuclei[10:20, 10:20], nuclei[15:25, 40:50] = 1, 2
    cell = np.repeat([0, 1], 20_000)
    for enrichment in (1.0, 5.0):
        yx = place_in_cells(generator(0, 1), cells, nuclei, cell, np.full(len(cell), enrichment))
        row, column = np.floor(yx).astype(int).T
        assert (cells[row, column] == cell + 1).all()
        inside = nuclei[row, column] > 0
        for i, area in ((0, 600), (1, 750)):
            assert inside[cell == i].mean() == pytest.approx(enrichment * 100 / (enrichment * 100 + area - 100), abs=0.015)


def test_noise_is_uniform_or_patchy():
    def spread(fraction):
        yx = place_noise(generator(0, 1), (200, 200), 40_000, patchy_fraction=fraction, patch_scale_px=25)
        assert ((yx >= 0) & (yx < 200)).all()
        counts, *_ = np.histogram2d(*yx.T, bins=10, range=[[0, 200]] * 2)
        return counts.var() / counts.mean()

    assert spread(0) == pytest.approx(1, abs=0.35)
    assert spread(1) > 20


@given(seed=st.integers(0, 50), sigma=st.floats(0, 5))
def test_diffusion_stays_inside(seed, sigma):
    yx = np.random.default_rng(seed).random((200, 2)) * [30, 50]
    moved = diffuse(generator(seed, 1), yx, (30, 50), sigma)
    assert ((moved >= 0) & (moved < [30, 50])).all()
    if sigma == 0:
        np.testing.assert_array_equal(moved, yx)


def test_diffusion_has_its_standard_deviation():
    yx = np.full((20_000, 2), 500.0)
    assert (diffuse(generator(0, 1), yx, (1000, 1000), 3.0) - yx).std() == pytest.approx(3.0, rel=0.02)
