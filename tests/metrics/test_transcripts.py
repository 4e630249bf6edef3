from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sjg.core import InputError
from sjg.metrics import matched_instances, right_transcripts, transcript_assignment, transcript_jaccard


@st.composite
def assignments(draw):
    n = draw(st.integers(1, 40))
    return tuple(draw(arrays(np.int32, n, elements=st.integers(0, 4))) for _ in range(2))


def maps(true_cell, cell):
    """Every one-to-one map from predicted to true cells, as a dict."""
    a, b = (sorted(set(ids) - {0}) for ids in (true_cell.tolist(), cell.tolist()))
    padded = [*a, *[-1] * len(b)]
    return [dict(zip(b, choice, strict=True)) for choice in set(itertools.permutations(padded, len(b)))]


@given(assignments())
def test_optimal_matching_is_the_best_of_all_maps(pair):
    true_cell, cell = pair
    right = max(sum(c > 0 and rename[c] == t for t, c in zip(*map(np.ndarray.tolist, pair), strict=True)) for rename in maps(*pair))
    outside = ((true_cell == 0) & (cell == 0)).sum()
    accuracy, precision, recall = transcript_assignment(true_cell, cell)
    assert accuracy == pytest.approx((right + outside) / len(cell))
    assert precision == pytest.approx(right / (cell > 0).sum() if (cell > 0).any() else np.nan, nan_ok=True)
    assert recall == pytest.approx(right / (true_cell > 0).sum() if (true_cell > 0).any() else np.nan, nan_ok=True)


@given(assignments())
def test_jaccard_is_the_best_of_all_maps(pair):
    true_cell, cell = pair
    n_true = len(set(true_cell.tolist()) - {0})

    def total(rename):
        return sum(
            ((true_cell == t) & (cell == c)).sum() / ((true_cell == t) | (cell == c)).sum()
            for c, t in rename.items()
            if (true_cell == t).any()
        )

    expected = max(total(rename) for rename in maps(*pair)) / n_true if n_true else np.nan
    assert transcript_jaccard(true_cell, cell) == pytest.approx(expected, nan_ok=True)


@given(assignments())
def test_matching_by_id_equals_plain_comparison(pair):
    true_cell, cell = pair
    accuracy, precision, recall = transcript_assignment(true_cell, cell, matching="id")
    assert accuracy == pytest.approx((true_cell == cell).mean())
    right = ((true_cell == cell) & (cell > 0)).sum()
    assert precision == pytest.approx(right / (cell > 0).sum() if (cell > 0).any() else np.nan, nan_ok=True)
    assert recall == pytest.approx(right / (true_cell > 0).sum() if (true_cell > 0).any() else np.nan, nan_ok=True)
    assert accuracy <= transcript_assignment(true_cell, cell).accuracy


@given(assignments(), st.sampled_from(["optimal", "id"]))
def test_right_transcripts_are_those_that_the_accuracy_counts(pair, matching):
    true_cell, cell = pair
    right = right_transcripts(true_cell, cell, matching=matching)
    assert right.mean() == pytest.approx(transcript_assignment(true_cell, cell, matching=matching).accuracy)
    # one true cell for each predicted one, and none twice
    pairs = {(int(c), int(t)) for t, c in zip(true_cell[right], cell[right], strict=True)}
    assert len({c for c, _ in pairs}) == len({t for _, t in pairs}) == len(pairs)
    assert (right[(true_cell == 0) | (cell == 0)] == ((true_cell == 0) & (cell == 0))[(true_cell == 0) | (cell == 0)]).all()


@given(assignments(), st.integers(0, 99))
def test_range_perfection_and_invariance(pair, seed):
    true_cell, cell = pair
    rng = np.random.default_rng(seed)
    rename = np.concatenate([[0], 1 + rng.permutation(500)])
    order = rng.permutation(len(cell))
    values = np.array([*transcript_assignment(true_cell, cell), transcript_jaccard(true_cell, cell)])
    assert ((values >= 0) & (values <= 1) | np.isnan(values)).all()
    np.testing.assert_allclose(
        [*transcript_assignment(true_cell[order], rename[cell][order]), transcript_jaccard(true_cell[order], rename[cell][order])], values
    )
    assert transcript_assignment(true_cell, rename[true_cell]).accuracy == 1
    if (true_cell > 0).any():
        assert transcript_jaccard(true_cell, rename[true_cell]) == 1


@given(assignments())
def test_swapping_truth_and_prediction_swaps_precision_and_recall(pair):
    forward, backward = transcript_assignment(*pair), transcript_assignment(*pair[::-1])
    np.testing.assert_allclose(
        [forward.accuracy, forward.precision, forward.recall], [backward.accuracy, backward.recall, backward.precision]
    )


def test_matching_by_the_overlap_of_masks():
    truth, labels = np.array([[1, 1, 1, 2, 2, 2]]), np.array([[8, 8, 9, 9, 9, 9]])
    pairs = matched_instances(truth, labels)
    true_cell, cell = [1, 1, 2, 2, 2, 0], [8, 9, 9, 9, 0, 0]
    accuracy, precision, recall = transcript_assignment(true_cell, cell, matching=pairs)
    assert (accuracy, precision, recall) == pytest.approx((4 / 6, 3 / 4, 3 / 5))
    assert transcript_jaccard(true_cell, cell, matching=pairs) == pytest.approx((1 / 2 + 2 / 4) / 2)
    # transcripts of cells that no mask has do not match
    assert transcript_assignment([7, 7], [8, 9], matching=pairs).accuracy == 0


def test_a_cell_cut_in_two_is_right_in_one_part_only():
    assert transcript_assignment([1] * 10, [3] * 6 + [4] * 4).recall == pytest.approx(0.6)
    assert transcript_assignment([1] * 6 + [2] * 4, [5] * 10).precision == pytest.approx(0.6)


def test_missed_cells_count_as_zero_in_the_jaccard():
    assert transcript_jaccard([1, 1, 2, 3], [1, 1, 0, 0]) == pytest.approx(1 / 3)


def test_no_transcripts():
    none = np.zeros(0, dtype=int)
    assert np.isnan(transcript_assignment(none, none)).all()
    assert np.isnan(transcript_jaccard(none, none))


def test_unknown_matching_is_refused():
    with pytest.raises(InputError, match="choose 'optimal', 'id'"):
        transcript_assignment([1], [1], matching="greedy")
    with pytest.raises(InputError, match="one shape"):
        transcript_jaccard([1, 2], [1])
