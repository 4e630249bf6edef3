from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from skimage.draw import disk

from sjg.core import InputError
from sjg.metrics import (
    aggregated_jaccard,
    f1_at_iou,
    instance_iou,
    matched_instances,
    panoptic_quality,
    segmentation_scores,
)

images = arrays(np.int32, (6, 7), elements=st.integers(0, 4))
thresholds = st.sampled_from([0.1, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0])
SYMMETRIC = [f1_at_iou, panoptic_quality]
ALL = [*SYMMETRIC, aggregated_jaccard, instance_iou]


def ids(image):
    return [int(i) for i in np.unique(image) if i]


def iou_table(truth, labels):
    """The definition, one pair after the other."""
    table = np.zeros((len(ids(truth)), len(ids(labels))))
    for row, a in enumerate(ids(truth)):
        for column, b in enumerate(ids(labels)):
            table[row, column] = ((truth == a) & (labels == b)).sum() / ((truth == a) | (labels == b)).sum()
    return table


def naive_aji(truth, labels):
    intersection = union = 0
    taken = set()
    for a in ids(truth):
        mask = truth == a
        pairs = {b: ((mask & (labels == b)).sum(), (mask | (labels == b)).sum()) for b in ids(labels) if (mask & (labels == b)).any()}
        if not pairs:
            union += mask.sum()
            continue
        best = max(i / u for i, u in pairs.values())
        tied = {b: pair for b, pair in pairs.items() if pair[0] / pair[1] == best}
        taken |= set(tied)
        i, u = max(tied.values())
        intersection, union = intersection + i, union + u
    return intersection / (union + sum((labels == b).sum() for b in ids(labels) if b not in taken))


def cells_and_shifted(seed=0, shift=2):
    """Disks in a 200 x 200 image, and the same moved, some lost and one invented."""
    rng = np.random.default_rng(seed)
    truth, labels = np.zeros((200, 200), np.int32), np.zeros((200, 200), np.int32)
    centres = [(y, x) for y in range(15, 195, 25) for x in range(15, 195, 25)]
    for number, (y, x) in enumerate(centres, start=1):
        radius = rng.integers(6, 12)
        truth[disk((y, x), radius, shape=truth.shape)] = number
        if number % 7:
            dy, dx = rng.integers(-shift, shift + 1, 2)
            labels[disk((y + dy, x + dx), radius + rng.integers(-1, 2), shape=labels.shape)] = 500 - number
    labels[0:3, 0:3] = 1000
    return truth, labels


@given(images, images, thresholds)
def test_f1_equals_the_definition_by_dense_assignment(truth, labels, iou):
    assume(ids(truth) or ids(labels))
    near = (iou_table(truth, labels) >= iou).astype(float)
    n_pairs = near[linear_sum_assignment(near, maximize=True)].sum() if near.size else 0
    assert f1_at_iou(truth, labels, iou=iou) == pytest.approx(2 * n_pairs / (len(ids(truth)) + len(ids(labels))))


@given(images, images)
def test_panoptic_quality_is_segmentation_times_recognition(truth, labels):
    assume(ids(truth) or ids(labels))
    table = iou_table(truth, labels)
    matched = table[table > 0.5]
    recognition = len(matched) / (0.5 * len(ids(truth)) + 0.5 * len(ids(labels)))
    assert panoptic_quality(truth, labels) == pytest.approx(matched.mean() * recognition if len(matched) else 0)


@given(images, images)
def test_mean_iou_equals_the_definition(truth, labels):
    assume(ids(truth))
    table = iou_table(truth, labels)
    assert instance_iou(truth, labels) == pytest.approx(table.max(axis=1, initial=0).mean())
    same_id = [table[row, ids(labels).index(a)] if a in ids(labels) else 0 for row, a in enumerate(ids(truth))]
    assert instance_iou(truth, labels, matching="id") == pytest.approx(np.mean(same_id))


@given(images, images)
def test_aggregated_jaccard_equals_the_published_algorithm(truth, labels):
    assume(ids(truth) or ids(labels))
    assert aggregated_jaccard(truth, labels) == pytest.approx(naive_aji(truth, labels))


@given(images, images, thresholds)
def test_matches_are_one_to_one_and_of_largest_total(truth, labels, iou):
    table = iou_table(truth, labels)
    pairs = matched_instances(truth, labels, iou=iou)
    allowed = np.where(table >= iou, table, 0)
    assert pairs.iou.sum() == pytest.approx(allowed[linear_sum_assignment(allowed, maximize=True)].sum() if table.size else 0)
    assert len(set(pairs.truth_id)) == len(set(pairs.label_id)) == len(pairs)
    assert (np.diff(pairs.truth_id) > 0).all()
    for a, b, value in zip(pairs.truth_id, pairs.label_id, pairs.iou, strict=True):
        assert value == pytest.approx(table[ids(truth).index(a), ids(labels).index(b)])
        assert value >= iou


@pytest.mark.parametrize("metric", ALL)
@given(truth=images, labels=images, seed=st.integers(0, 99))
def test_range_and_invariance(metric, truth, labels, seed):
    assume(ids(truth) and ids(labels))
    value = metric(truth, labels)
    assert 0 <= value <= 1
    rng = np.random.default_rng(seed)
    rename = np.concatenate([[0], 1 + rng.permutation(2000)]).astype(np.int64)
    assert metric(rename[truth], rename[::-1].cumsum()[labels] * (labels > 0)) == pytest.approx(value)
    assert metric(truth.T[::-1], labels.T[::-1]) == pytest.approx(value)
    assert metric(truth, truth) == 1


@pytest.mark.parametrize("metric", SYMMETRIC)
@given(truth=images, labels=images)
def test_symmetry(metric, truth, labels):
    assume(ids(truth) or ids(labels))
    assert metric(truth, labels) == pytest.approx(metric(labels, truth))


@given(images, images)
def test_f1_falls_with_the_threshold(truth, labels):
    assume(ids(truth) or ids(labels))
    values = [f1_at_iou(truth, labels, iou=iou) for iou in (0.1, 0.5, 0.75, 1.0)]
    assert values == sorted(values, reverse=True)


def test_realistic_cells_against_the_definitions():
    truth, labels = cells_and_shifted()
    table = iou_table(truth, labels)
    n = table.shape[0] + table.shape[1]
    scores = segmentation_scores(truth, labels, iou=(0.5, 0.75))
    assert 0 < scores["f1_at_iou_0.75"] < scores["f1_at_iou_0.5"] < 1
    assert scores["f1_at_iou_0.5"] == pytest.approx(2 * (table >= 0.5).sum() / n)
    assert scores["f1_at_iou_0.75"] == pytest.approx(2 * (table >= 0.75).sum() / n)
    assert scores["panoptic_quality"] == pytest.approx(2 * table[table > 0.5].sum() / n)
    assert scores["mean_iou"] == pytest.approx(table.max(axis=1).mean())
    assert scores["aggregated_jaccard"] == pytest.approx(naive_aji(truth, labels))


def test_scores_of_one_pass_equal_the_functions():
    truth, labels = cells_and_shifted(seed=1, shift=5)
    scores = segmentation_scores(truth, labels)
    assert scores == {
        "f1_at_iou_0.5": f1_at_iou(truth, labels),
        "f1_at_iou_0.75": f1_at_iou(truth, labels, iou=0.75),
        "f1_at_iou_0.9": f1_at_iou(truth, labels, iou=0.9),
        "panoptic_quality": panoptic_quality(truth, labels),
        "aggregated_jaccard": aggregated_jaccard(truth, labels),
        "mean_iou": instance_iou(truth, labels),
    }


def test_threshold_is_inclusive_and_a_cell_matches_once():
    truth = np.array([[1, 1, 1, 1]])
    halves = np.array([[5, 5, 6, 6]])
    assert f1_at_iou(truth, halves, iou=0.5) == pytest.approx(2 / 3)
    assert len(matched_instances(truth, halves, iou=0.5)) == 1
    assert panoptic_quality(truth, halves) == 0


def test_nothing_found_is_zero_and_nothing_to_find_is_nan():
    empty, one = np.zeros((3, 3), int), np.eye(3, dtype=int)
    for metric in ALL:
        assert metric(one, empty) == 0
        assert np.isnan(metric(empty, empty))
    assert f1_at_iou(empty, one) == panoptic_quality(empty, one) == aggregated_jaccard(empty, one) == 0
    assert np.isnan(instance_iou(empty, one))
    assert len(matched_instances(one, empty)) == 0


@pytest.mark.parametrize("iou", [-0.1, 1.1, float("nan")])
def test_thresholds_outside_the_range_are_refused(iou):
    image = np.eye(3, dtype=int)
    for function in (f1_at_iou, matched_instances):
        with pytest.raises(InputError, match="must lie in"):
            function(image, image, iou=iou)


def test_unknown_matching_is_refused():
    with pytest.raises(InputError, match="choose 'best' or 'id'"):
        instance_iou(np.eye(2, dtype=int), np.eye(2, dtype=int), matching="nearest")
