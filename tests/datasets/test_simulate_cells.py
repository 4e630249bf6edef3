"""Shapes of simulated cells and nuclei."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sjg.core import generator
from sjg.datasets._simulate_cells import draw_cells, draw_nuclei, scatter_centres

SHAPE = (150, 210)


@pytest.fixture(scope="module", params=[0, 1, 2])
def drawn(request):
    seed = request.param
    centres = scatter_centres(generator(seed, 1), SHAPE, 60)
    radius = 12 * np.exp(0.2 * generator(seed, 2).standard_normal(60))
    cells, kept = draw_cells(generator(seed, 3), SHAPE, centres, radius, coverage=0.8, pixel_size_um=0.5)
    nuclei = draw_nuclei(generator(seed, 4), cells, area_fraction=0.3, size_spread=0.2, pixel_size_um=0.5)
    return centres, cells, kept, nuclei


def test_centres_are_spread_more_evenly_than_chance(drawn):
    centres = drawn[0]
    assert ((centres >= 0) & (centres < SHAPE)).all()
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 1e9 * np.eye(len(centres))
    # mean nearest-neighbour distance of a Poisson process: 1 / (2 sqrt(density))
    assert distance.min(axis=1).mean() > 1.3 * 0.5 / np.sqrt(len(centres) / np.prod(SHAPE))


def test_ids_are_contiguous_and_each_cell_is_one_piece_without_holes(drawn):
    _, cells, kept, _ = drawn
    assert cells.dtype == np.int32
    np.testing.assert_array_equal(np.unique(cells[cells > 0]), np.arange(1, len(kept) + 1))
    for i in range(1, len(kept) + 1):
        mask = cells == i
        assert ndimage.label(mask)[1] == 1
        assert not (ndimage.binary_fill_holes(mask) & (cells == 0)).any()


def test_cells_belong_to_their_centre(drawn):
    centres, cells, kept, _ = drawn
    middle = np.array(ndimage.center_of_mass(cells > 0, cells, np.arange(1, len(kept) + 1)))
    # a centre may lie a little outside a bent cell, never a cell away
    assert np.median(np.linalg.norm(middle - centres[kept], axis=1)) < 6
    assert np.linalg.norm(middle - centres[kept], axis=1).max() < 16


def test_coverage_and_contact(drawn):
    _, cells, _, _ = drawn
    assert (cells > 0).mean() == pytest.approx(0.8, abs=0.02)
    left, right = cells[:, :-1], cells[:, 1:]
    border = (left != right) & ((left > 0) | (right > 0))
    contact = border & (left > 0) & (right > 0)
    assert 0.25 < contact.sum() / border.sum() < 0.9


def test_each_nucleus_lies_inside_its_own_cell_in_one_piece(drawn):
    _, cells, kept, nuclei = drawn
    np.testing.assert_array_equal(np.unique(nuclei[nuclei > 0]), np.arange(1, len(kept) + 1))
    assert (nuclei[nuclei > 0] == cells[nuclei > 0]).all()
    assert all(ndimage.label(nuclei == i)[1] == 1 for i in range(1, len(kept) + 1))


def test_nuclei_are_off_centre_and_their_size_is_only_partly_that_of_the_cell(drawn):
    _, cells, kept, nuclei = drawn
    ids = np.arange(1, len(kept) + 1)
    offset = np.linalg.norm(
        np.array(ndimage.center_of_mass(nuclei > 0, nuclei, ids)) - np.array(ndimage.center_of_mass(cells > 0, cells, ids)), axis=1
    )
    assert np.median(offset) > 1.5
    area_cell, area_nucleus = (np.bincount(labels.ravel(), minlength=len(ids) + 1)[1:] for labels in (cells, nuclei))
    assert 0.2 < area_nucleus.sum() / area_cell.sum() < 0.4
    assert 0.1 < np.corrcoef(area_cell, area_nucleus)[0, 1] < 0.95


def test_full_coverage_leaves_no_gap_and_no_cells_leave_no_nucleus():
    centres = scatter_centres(generator(0, 1), (60, 60), 9)
    cells, _ = draw_cells(generator(0, 2), (60, 60), centres, np.full(9, 10.0), coverage=1.0, pixel_size_um=0.5)
    assert (cells > 0).mean() > 0.98
    empty = np.zeros((20, 20), np.int32)
    assert not draw_nuclei(generator(0, 3), empty, area_fraction=0.3, size_spread=0.2, pixel_size_um=0.5).any()
