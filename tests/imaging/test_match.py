from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.segmentation import find_boundaries

from sjg.core import InputError
from sjg.imaging import inner_boundary, match_nuclei, repaired_labels


def _toy():
    """Two cells of 5 x 5 (interior 3 x 3) side by side and two nuclei; the first cell in order spoils the second's best choice."""
    cells = np.zeros((5, 10), dtype=int)
    cells[:, :5], cells[:, 5:] = 1, 2
    nuclei = np.zeros((5, 10), dtype=int)
    # nucleus 1: 4 pixels, 3 in the interior of cell 2 and one in that of cell 1
    nuclei[1, [3, 6, 7, 8]] = 1
    # nucleus 2: 4 pixels, 2 in the interior of cell 1
    nuclei[2, [2, 3, 4, 5]] = 2
    return cells, nuclei


def test_worked_by_hand():
    cells, nuclei = _toy()
    pairs = match_nuclei(cells, nuclei)
    assert pairs.cell_id.tolist() == [1, 2]
    assert pairs.nucleus_id.tolist() == [2, 1]
    np.testing.assert_allclose(pairs.mismatch, [0.5, 0.25])
    assert pairs.total_mismatch == pytest.approx(0.75)
    assert pairs.cell_area_px2.tolist() == [25, 25]
    assert pairs.nucleus_area_px2.tolist() == [4, 4]
    assert pairs.retained_px2.tolist() == [2, 3]
    assert pairs.matched_fraction == 1.0


def test_greedy_takes_the_best_in_the_order_of_the_cells():
    # both nuclei fit cell 1, the first better; only the first fits cell 2
    cells = np.zeros((5, 10), dtype=int)
    cells[:, :5], cells[:, 5:] = 1, 2
    nuclei = np.zeros((5, 10), dtype=int)
    nuclei[1, [1, 2, 3, 6, 7]] = 1  # 3/5 in cell 1, 2/5 in cell 2
    nuclei[3, [2, 3, 4, 5]] = 2  # 2/4 in cell 1, none in the interior of cell 2
    greedy, optimal = (match_nuclei(cells, nuclei, assignment=name) for name in ("greedy", "optimal"))
    assert list(zip(greedy.cell_id, greedy.nucleus_id, strict=True)) == [(1, 1)]
    assert greedy.total_mismatch == pytest.approx(0.4 + 1)
    assert greedy.matched_fraction == pytest.approx(1 / 3)
    assert list(zip(optimal.cell_id, optimal.nucleus_id, strict=True)) == [(1, 2), (2, 1)]
    assert optimal.total_mismatch == pytest.approx(0.5 + 0.6)


def test_a_nucleus_on_the_boundary_only_is_no_partner():
    cells = np.ones((3, 3), dtype=int)
    cells = np.pad(cells, 1)
    nuclei = np.zeros_like(cells)
    nuclei[1, 1:4] = 1
    assert len(match_nuclei(cells, nuclei)) == 0
    nuclei[2, 2] = 1
    assert match_nuclei(cells, nuclei).mismatch.tolist() == [0.75]


def test_repaired_labels_share_one_id():
    cells, nuclei = _toy()
    cells, nuclei = cells * 10, nuclei * 7
    pairs = match_nuclei(cells, nuclei)
    cell, nucleus, cytoplasm = repaired_labels(cells, nuclei, pairs)
    np.testing.assert_array_equal(cell, cells // 10)
    expected = np.zeros((5, 10), dtype=int)
    expected[2, [2, 3]], expected[1, [6, 7, 8]] = 1, 2
    np.testing.assert_array_equal(nucleus, expected)
    np.testing.assert_array_equal(cytoplasm, np.where(expected > 0, 0, cell))


_images = st.integers(0, 100_000).map(np.random.default_rng)


def _random(rng):
    """Rectangles over each other: touching, nested and torn apart, with gaps in the ids."""
    labels = np.zeros((24, 26), dtype=int)
    for identity in rng.permutation(rng.integers(1, 40, rng.integers(1, 14))):
        top, left = rng.integers(0, (20, 22))
        labels[top : top + rng.integers(1, 10), left : left + rng.integers(1, 10)] = identity
    return labels


@given(_images)
def test_optimal_is_never_worse_than_greedy(rng):
    cells, nuclei = _random(rng), _random(rng)
    greedy, optimal = (match_nuclei(cells, nuclei, assignment=name) for name in ("greedy", "optimal"))
    assert optimal.total_mismatch <= greedy.total_mismatch + 1e-12
    for pairs in (greedy, optimal):
        assert len(set(pairs.cell_id)) == len(set(pairs.nucleus_id)) == len(pairs)
        assert ((pairs.mismatch >= 0) & (pairs.mismatch < 1)).all()
        cell, nucleus, cytoplasm = repaired_labels(cells, nuclei, pairs)
        assert (cell[nucleus > 0] == nucleus[nucleus > 0]).all()
        assert not (inner_boundary(cells) & (nucleus > 0)).any()
        np.testing.assert_array_equal(nucleus + cytoplasm, cell)
        np.testing.assert_array_equal(np.bincount(nucleus.ravel(), minlength=len(pairs) + 1)[1:], pairs.retained_px2)


@given(_images)
def test_greedy_is_the_published_loop(rng):
    cells, nuclei = _random(rng), _random(rng)
    interior = np.where(inner_boundary(cells), 0, cells)
    used, expected = set(), []
    for cell in np.unique(cells[cells > 0]):
        best = None
        for nucleus in np.unique(nuclei[(cells == cell) & (nuclei > 0)]):
            if nucleus in used:
                continue
            outside = ((nuclei == nucleus) & (interior != cell)).sum() / (nuclei == nucleus).sum()
            if outside < 1 and (best is None or outside < best[1]):
                best = (nucleus, outside)
        if best is not None:
            used.add(best[0])
            expected.append((cell, best[0]))
    pairs = match_nuclei(cells, nuclei, assignment="greedy")
    assert list(zip(pairs.cell_id.tolist(), pairs.nucleus_id.tolist(), strict=True)) == expected


@given(_images)
def test_ids_only_name_things(rng):
    cells, nuclei = _random(rng), _random(rng)
    pairs = match_nuclei(cells, nuclei)
    renamed = match_nuclei(np.where(cells, 1000 - cells, 0), np.where(nuclei, 500 - nuclei, 0))
    assert renamed.total_mismatch == pytest.approx(pairs.total_mismatch)


@given(_images)
def test_inner_boundary_is_that_of_scikit_image(rng):
    labels = _random(rng)
    np.testing.assert_array_equal(inner_boundary(labels), find_boundaries(labels, connectivity=1, mode="inner"))


def test_blocks_change_nothing(monkeypatch):
    from sjg.imaging import _blocks

    rng = np.random.default_rng(4)
    cells, nuclei = (np.kron(_random(rng), np.ones((2, 2), dtype=int)) for _ in range(2))
    expected = match_nuclei(cells, nuclei)
    assert len(expected) == 5
    monkeypatch.setattr(_blocks, "BLOCK_PX", 7)
    found = match_nuclei(cells, nuclei)
    for name in ("cell_id", "nucleus_id", "mismatch", "cell_area_px2", "nucleus_area_px2", "retained_px2"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_hundred_thousand_cells_in_seconds():
    side, count = 10, 320
    cells = np.kron(np.arange(1, count**2 + 1).reshape(count, count), np.ones((side, side), dtype=np.int64))
    nuclei = np.where(np.kron(np.ones((count, count)), np.pad(np.ones((6, 6)), 2)) > 0, cells, 0)
    nuclei = np.roll(nuclei, (3, 4), (0, 1))
    start = time.process_time()
    for assignment in ("optimal", "greedy"):
        pairs = match_nuclei(cells, nuclei, assignment=assignment)
        assert len(pairs) > 100_000
    # measured: about 1 s of CPU for both; the bound leaves room for slow machines
    assert time.process_time() - start < 20


def test_refuses_what_is_unknown():
    with pytest.raises(InputError, match="assignment"):
        match_nuclei(np.eye(3, dtype=int), np.eye(3, dtype=int), assignment="best")
    with pytest.raises(InputError, match="one shape"):
        match_nuclei(np.eye(3, dtype=int), np.eye(4, dtype=int))
