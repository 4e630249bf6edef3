from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from sjg.core import InputError
from sjg.metrics import negative_marker_purity
from sjg.tl._expression_reference import ExpressionReference

N_TYPES, N_GENES = 3, 12


@pytest.fixture(scope="module")
def pure_cells():
    """Class means with leaky markers; cells of unequal depth in which genes are more or less efficient than in the reference."""
    rng = np.random.default_rng(0)
    means = np.full((N_TYPES, N_GENES), 0.1)
    for code in range(N_TYPES):
        means[code, code * 4 : code * 4 + 4] = 4
    code = rng.integers(0, N_TYPES, 3000)
    depth = rng.gamma(2, 0.5, (3000, 1))
    efficiency = rng.uniform(0.4, 2.5, N_GENES)
    counts = rng.poisson(depth * means[code] * efficiency)
    genes, types = tuple(f"g{i}" for i in range(N_GENES)), tuple("abc")
    return ExpressionReference(types, genes, means), counts, code, depth


def test_shares_of_pure_cells_follow_depth_and_efficiency(pure_cells):
    reference, counts, code, _ = pure_cells
    found = reference.expressing(csr_matrix(counts), code)
    observed = pd.DataFrame(counts > 0).groupby(code).mean().to_numpy()
    np.testing.assert_allclose(found, observed, atol=0.035)
    assert negative_marker_purity(counts, code, found, negative=reference.negative) > 0.99


def test_foreign_transcripts_lower_the_purity_at_any_depth(pure_cells):
    reference, counts, code, depth = pure_cells
    rng = np.random.default_rng(1)
    purity = []
    for leak in (0.0, 0.1, 0.3):
        mixed = counts + rng.poisson(leak * depth * reference.means[(code + 1) % N_TYPES])
        purity.append(negative_marker_purity(mixed, code, reference.expressing(csr_matrix(mixed), code), negative=reference.negative))
    assert purity[0] > purity[1] + 0.02 > purity[2] + 0.04


def test_cells_find_their_type(pure_cells):
    reference, counts, code, _ = pure_cells
    found = reference.most_likely_type(csr_matrix(counts))
    empty = counts.sum(axis=1) == 0
    assert empty.any()
    assert (found[empty] == -1).all()
    assert (found == code)[counts.sum(axis=1) >= 5].mean() > 0.97


def test_pairs_depend_on_the_reference_alone(pure_cells):
    reference = pure_cells[0]
    pairs = reference.exclusive_pairs()
    # 4 markers of each of 3 types exclude each other
    assert len(pairs) == 3 * 16
    assert (pairs[:, 0] // 4 != pairs[:, 1] // 4).all()


def test_genes_are_matched_by_name(pure_cells):
    shared, kept = pure_cells[0].on_genes(("g5", "other", "g2"))
    assert shared.tolist() == [0, 2]
    assert kept.genes == ("g5", "g2")
    np.testing.assert_array_equal(kept.means, pure_cells[0].means[:, [5, 2]])
    with pytest.raises(InputError, match="share 1 genes"):
        pure_cells[0].on_genes(("g5", "G2"))
