from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import coo_array, csc_array, csr_array, csr_matrix

from sjg.core import InputError
from sjg.metrics import (
    coexpression_rate,
    exclusive_pairs,
    expressing_fraction,
    negative_marker_purity,
    negative_markers,
    poisson_expressing_fraction,
)

counts_tables = arrays(np.int64, (12, 5), elements=st.sampled_from([0, 0, 0, 1, 4]))
shares = arrays(np.float64, (3, 5), elements=st.sampled_from([0.0, 0.004, 0.005, 0.1, 0.3, 0.9]))
types = arrays(np.int64, 12, elements=st.integers(-1, 2))


@given(counts_tables, types, st.integers(0, 4))
def test_expressing_fraction_equals_a_pandas_group_mean(counts, cell_type, min_cells):
    found = expressing_fraction(counts, cell_type, n_types=3, min_cells=min_cells)
    groups = pd.DataFrame(counts > 0).groupby(cell_type)
    for code in range(3):
        n = (cell_type == code).sum()
        if n >= max(1, min_cells):
            np.testing.assert_allclose(found[code], groups.mean().loc[code])
        elif n < min_cells:
            assert np.isnan(found[code]).all()


def test_poisson_fraction_agrees_with_drawn_counts():
    means = np.array([[0.001, 0.2, 1.0, 4.0]])
    drawn = np.random.default_rng(0).poisson(means, size=(200_000, 4))
    np.testing.assert_allclose(poisson_expressing_fraction(means)[0], (drawn > 0).mean(axis=0), atol=0.004)


def test_poisson_fraction_at_other_depths_agrees_with_drawn_counts():
    rng = np.random.default_rng(0)
    means = np.array([[1.0, 3.0, 6.0], [5.0, 5.0, 0.0]])
    totals = np.array([[2.0, 8.0], [1.0, 30.0]])
    for row, total, found in zip(means, totals, poisson_expressing_fraction(means, n_transcripts=totals), strict=True):
        drawn = rng.poisson(rng.choice(total, (200_000, 1)) * row / row.sum())
        np.testing.assert_allclose(found, (drawn > 0).mean(axis=0), atol=0.005)
    np.testing.assert_allclose(poisson_expressing_fraction(means, n_transcripts=means.sum(axis=1)), poisson_expressing_fraction(means))


# no means so small that a share of them is lost in rounding
@given(arrays(np.float64, (3, 5), elements=st.just(0.0) | st.floats(1e-6, 50)), st.sampled_from([0.0, 0.02, 0.05, 0.5]))
def test_negative_markers_equal_the_definition(means, max_ratio):
    share = [row / row.sum() if row.sum() else row for row in means]
    expected = [
        [max(other[g] for other in share) > 0 and row[g] <= max_ratio * max(other[g] for other in share) for g in range(5)] for row in share
    ]
    assert negative_markers(means, max_ratio=max_ratio).tolist() == expected


def test_given_negative_markers_take_the_place_of_the_limit():
    expressing = np.array([[0.9, 0.1], [0.1, 0.9]])
    negative = np.array([[False, True], [True, False]])
    assert exclusive_pairs(expressing).shape == (0, 2)
    assert exclusive_pairs(expressing, negative=negative).tolist() == [[0, 1]]
    counts, cell_type = [[3, 1], [2, 0], [0, 1], [1, 1]], [0, 0, 1, 1]
    assert np.isnan(negative_marker_purity(counts, cell_type, expressing, min_cells=1))
    # half of the cells of each type hold the negative marker, a tenth would be due
    assert negative_marker_purity(counts, cell_type, expressing, negative=negative, min_cells=1) == pytest.approx(0.6)
    # a type without a reference has none
    expressing[1] = np.nan
    counts[0][1] = 0
    assert negative_marker_purity(counts, cell_type, expressing, negative=negative, min_cells=1) == 1


@given(shares)
def test_exclusive_pairs_equal_the_definition(expressing):
    expected = [
        (a, b)
        for a, b in itertools.combinations(range(5), 2)
        if all(min(row[a], row[b]) <= 0.005 for row in expressing) and expressing[:, a].max() >= 0.25 and expressing[:, b].max() >= 0.25
    ]
    assert [tuple(pair) for pair in exclusive_pairs(expressing).tolist()] == expected


def test_types_without_a_reference_are_left_out_of_the_pairs():
    assert exclusive_pairs([[0.9, 0.0], [0.0, 0.9], [np.nan, np.nan]]).tolist() == [[0, 1]]
    assert exclusive_pairs([[np.nan, np.nan]]).shape == (0, 2)


@given(counts_tables, arrays(np.int64, (4, 2), elements=st.integers(0, 4)))
def test_coexpression_rate_equals_the_definition(counts, pairs):
    rates = []
    for a, b in pairs:
        either = ((counts[:, a] > 0) | (counts[:, b] > 0)).sum()
        if either:
            rates.append(((counts[:, a] > 0) & (counts[:, b] > 0)).sum() / either)
    assert coexpression_rate(counts, pairs) == pytest.approx(np.mean(rates) if rates else np.nan, nan_ok=True)


@given(counts_tables, types, shares, st.integers(1, 4))
def test_purity_equals_the_definition(counts, cell_type, expressing, min_cells):
    cells, reference = [], []
    for code in range(3):
        member = cell_type == code
        if member.sum() < min_cells:
            continue
        for gene in range(5):
            if expressing[code, gene] <= 0.005:
                cells.append((counts[member, gene] > 0).mean())
                reference.append(expressing[code, gene])
    expected = 1 - max(0, np.mean(cells) - np.mean(reference)) if cells else np.nan
    value = negative_marker_purity(counts, cell_type, expressing, min_cells=min_cells)
    assert value == pytest.approx(expected, nan_ok=True)
    assert np.isnan(value) or 0 <= value <= 1


@given(counts_tables, types, shares, st.integers(0, 99))
def test_order_of_cells_genes_and_types_does_not_matter(counts, cell_type, expressing, seed):
    rng = np.random.default_rng(seed)
    cell, gene, code = rng.permutation(12), rng.permutation(5), rng.permutation(3)
    renamed = np.append(np.argsort(code), -1)[cell_type]
    value = negative_marker_purity(counts, cell_type, expressing, min_cells=1)
    shuffled = negative_marker_purity(counts[cell][:, gene], renamed[cell], expressing[code][:, gene], min_cells=1)
    assert shuffled == pytest.approx(value, nan_ok=True)
    rate = coexpression_rate(counts, exclusive_pairs(expressing))
    assert coexpression_rate(counts[cell][:, gene], exclusive_pairs(expressing[code][:, gene])) == pytest.approx(rate, nan_ok=True)


@pytest.mark.parametrize("form", [csr_matrix, csr_array, csc_array, coo_array])
def test_sparse_tables_give_the_dense_values(form):
    rng = np.random.default_rng(0)
    counts, cell_type = rng.poisson(0.4, (60, 6)), rng.integers(0, 2, 60)
    expressing = expressing_fraction(counts, cell_type)
    np.testing.assert_array_equal(expressing_fraction(form(counts), cell_type), expressing)
    assert coexpression_rate(form(counts), [[0, 1], [2, 3]]) == coexpression_rate(counts, [[0, 1], [2, 3]])
    assert negative_marker_purity(form(counts), cell_type, np.zeros((2, 6))) == negative_marker_purity(counts, cell_type, np.zeros((2, 6)))


def test_mixing_neighbours_lowers_purity_and_raises_coexpression():
    rng = np.random.default_rng(0)
    means = np.kron(np.eye(2), np.full((1, 5), 3.0))
    cell_type = np.repeat([0, 1], 200)
    pure = rng.poisson(means[cell_type])
    mixed = pure + rng.poisson(0.3 * means[1 - cell_type])
    expressing = poisson_expressing_fraction(means)
    pairs = exclusive_pairs(expressing)
    assert len(pairs) == 25
    assert negative_marker_purity(pure, cell_type, expressing) == 1
    assert coexpression_rate(pure, pairs) == 0
    # 0.9 foreign transcripts of each gene in each cell
    assert negative_marker_purity(mixed, cell_type, expressing) == pytest.approx(np.exp(-0.9), abs=0.02)
    assert coexpression_rate(mixed, pairs) > 0.4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expressing_fraction(np.ones((3, 2)), [0, 1]), "3 cells, cell_type 2"),
        (lambda: expressing_fraction(np.ones((2, 2)), [0, 4], n_types=2), "only 2 types"),
        (lambda: expressing_fraction(np.ones((2, 2)), [0.0, 1.0]), "integer indices"),
        (lambda: poisson_expressing_fraction([[-1.0]]), "non-negative"),
        (lambda: poisson_expressing_fraction([1.0]), "types, genes"),
        (lambda: poisson_expressing_fraction([[1.0]], n_transcripts=[1.0, 2.0]), r"n_transcripts must be \(1,\)"),
        (lambda: poisson_expressing_fraction([[1.0]], n_transcripts=[-1.0]), "not negative"),
        (lambda: negative_markers([[np.nan]]), "finite"),
        (lambda: exclusive_pairs([0.5]), "types, genes"),
        (lambda: exclusive_pairs([[0.5]], negative=[[1]]), "negative must be bool"),
        (lambda: coexpression_rate(np.ones((2, 2)), [[0, 2]]), "indices of the 2 genes"),
        (lambda: coexpression_rate(np.ones((2, 2)), [[0.0, 1.0]]), "integer indices"),
        (lambda: negative_marker_purity(np.ones((2, 2)), [0, 0], np.zeros((1, 3))), "reference genes"),
        (lambda: negative_marker_purity(np.ones((2, 2)), [0, 1], np.zeros((1, 2))), "only 1 types"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(InputError, match=message):
        call()
