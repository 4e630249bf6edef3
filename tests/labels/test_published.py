"""The published update as a whole, and one round by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sjg.core import InputError
from sjg.labels import (
    PublishedRule,
    attribution_agrees,
    attribution_gate,
    attribution_in_top,
    class_of,
    published_update,
    remove_islands,
    restore_core,
    territory,
)


def scene(seed, n=5, n_types=3):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(6, 20)), int(rng.integers(6, 20)))
    fixed = np.zeros(shape, np.int32)
    for i in range(1, n + 1):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        fixed[y : y + 2, x : x + 2] = i
    dynamic = territory(fixed, float(rng.integers(0, 4)))
    types = np.r_[0, rng.integers(1, n_types + 1, n)]
    score = ndimage.gaussian_filter(rng.standard_normal((n_types + 1, *shape)), (0, 1.5, 1.5)) * 8
    probability = np.exp(score) / np.exp(score).sum(0)
    attribution = rng.random((n_types, *shape))
    return fixed, dynamic, probability, types, attribution


seeds = st.integers(0, 10_000)
rules = st.builds(
    PublishedRule,
    territory_px=st.sampled_from([1, 2, 4]),
    confidence_threshold=st.sampled_from([0.0, 0.4, 0.7]),
    confidence_window_px=st.sampled_from([1, 3]),
    attribution_gate=st.sampled_from(["dominant", "top_fraction"]),
    attribution_fraction=st.sampled_from([0.1, 0.6]),
    min_votes=st.integers(0, 3),
    max_gap_px=st.integers(0, 3),
)


@given(seeds, rules, st.booleans())
def test_what_every_round_keeps(seed, rule, gated):
    fixed, dynamic, probability, types, attribution = scene(seed)
    labels = published_update(fixed, dynamic, probability, instance_type=types, attribution=attribution if gated else None, rule=rule)
    assert labels.dtype == fixed.dtype
    np.testing.assert_array_equal(labels[fixed > 0], fixed[fixed > 0])
    reach = territory(np.where(fixed > 0, fixed, dynamic), rule.territory_px)
    for i in np.unique(labels[labels > 0]):
        pieces, _ = ndimage.label(labels == i, np.ones((3, 3)))
        assert set(pieces[pieces > 0]) == set(pieces[(fixed == i)])
        # only holes are filled beyond the territory
        outside = (labels == i) & (reach != i)
        assert ndimage.binary_fill_holes(labels == i)[outside].all()


@given(seeds, rules, st.permutations(range(1, 6)))
def test_relabelling_only_relabels(seed, rule, order):
    fixed, dynamic, probability, types, attribution = scene(seed)
    new = np.array([0, *order], np.int32)
    new_types = np.zeros_like(types)
    new_types[new] = types
    labels = published_update(fixed, dynamic, probability, instance_type=types, attribution=attribution, rule=rule)
    again = published_update(new[fixed], new[dynamic], probability, instance_type=new_types, attribution=attribution, rule=rule)
    np.testing.assert_array_equal(new[labels], again)


@given(seeds)
def test_a_stricter_rule_gives_a_smaller_result(seed):
    fixed, dynamic, probability, types, attribution = scene(seed)

    def size(threshold, gate):
        # without votes and bridges, every step keeps the order of sets
        rule = PublishedRule(confidence_threshold=threshold, confidence_window_px=1, min_votes=0, max_gap_px=0, territory_px=1)
        return (published_update(fixed, dynamic, probability, instance_type=types, attribution=gate, rule=rule) > 0).sum()

    assert size(1.0, None) <= size(0.6, None) <= size(0.0, None)
    assert size(0.0, attribution) <= size(0.0, None)


def test_one_round_by_hand():
    #               core                 weak   strong  island behind a gap of 3
    fixed = np.array([[0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2]])
    sure = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.5, 0.9, 0.9, 0.4, 0.3, 0.2, 0.9])
    p = np.stack([1 - sure - 0.05, sure, np.full(12, 0.05)])[:, None]
    p[:, 0, 11] = 0.05, 0.05, 0.9
    rule = PublishedRule(territory_px=5, confidence_threshold=0.6, confidence_window_px=1, min_votes=1, max_gap_px=1)
    labels = published_update(fixed, fixed, p, instance_type=np.array([0, 1, 2]), rule=rule)
    # 0-1 and 4 are anchors; 5 is weak and bridged; 6-7 are anchors (7 in the territory of 1 by distance); 8-10 too weak
    assert labels.tolist() == [[1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 2]]
    narrow = published_update(fixed, labels, p, instance_type=np.array([0, 2, 2]), rule=rule)
    # with another type nothing agrees, and the cell goes back to its nucleus
    assert narrow.tolist() == [[0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2]]
    attribution = np.zeros((2, 1, 12))
    attribution[1, 0, 6:] = 1.0
    gated = published_update(fixed, fixed, p, instance_type=np.array([0, 1, 2]), attribution=attribution, rule=rule)
    assert gated.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 2]]


@given(seeds, rules)
def test_a_gate_that_was_kept_acts_like_its_attribution(seed, rule):
    fixed, dynamic, probability, types, attribution = scene(seed)
    attribution[0] = np.nan
    passing = attribution_gate(attribution, rule)
    for k in range(len(attribution)):
        own = np.full(fixed.shape, k + 1)
        dominant = rule.attribution_gate == "dominant"
        expected = attribution_agrees(attribution, own) if dominant else attribution_in_top(attribution, own, rule.attribution_fraction)
        np.testing.assert_array_equal(passing[k], expected)
    now, kept = (
        published_update(fixed, dynamic, probability, instance_type=types, rule=rule, **{name: value})
        for name, value in (("attribution", attribution), ("passing", passing))
    )
    np.testing.assert_array_equal(now, kept)


def test_ids_and_classes_agree_after_many_rounds():
    fixed, labels, probability, types, attribution = scene(4)
    for _ in range(5):
        labels = published_update(fixed, labels, probability, instance_type=types, attribution=attribution)
        classes = class_of(labels, types)
        for i in np.unique(labels):
            assert set(classes[labels == i]) == {types[i]}


@given(seeds)
def test_islands_are_the_pieces_without_core(seed):
    rng = np.random.default_rng(seed)
    labels, fixed = rng.integers(0, 4, (9, 11)), rng.integers(0, 4, (9, 11)) * (rng.random((9, 11)) < 0.1)
    expected = np.zeros_like(labels)
    for i in range(1, 4):
        pieces, n = ndimage.label(labels == i, np.ones((3, 3)))
        for piece in range(1, n + 1):
            if (fixed[pieces == piece] == i).any():
                expected[pieces == piece] = i
    np.testing.assert_array_equal(remove_islands(labels, fixed), expected)


@given(seeds)
def test_the_core_is_what_it_was(seed):
    rng = np.random.default_rng(seed)
    labels, fixed = rng.integers(0, 4, (5, 6)), rng.integers(0, 3, (5, 6))
    restored = restore_core(labels, fixed)
    for at in np.ndindex(labels.shape):
        assert restored[at] == (fixed[at] or labels[at])


def test_parts():
    labels = np.array([[1, 1, 0, 1, 3]])
    fixed = np.array([[1, 0, 0, 0, 0]])
    assert remove_islands(labels, fixed).tolist() == [[1, 1, 0, 0, 0]]
    assert restore_core(np.array([[0, 2, 2]]), np.array([[1, 1, 0]])).tolist() == [[1, 1, 2]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("territory_px", -1),
        ("confidence_threshold", 1.5),
        ("confidence_window_px", 4),
        ("attribution_gate", "votes"),
        ("attribution_fraction", 0),
        ("min_votes", 9),
        ("max_gap_px", -1),
    ],
)
def test_knobs_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=field):
        PublishedRule(**{field: value})


def test_unusable_arrays_are_refused():
    fixed, dynamic, probability, types, _ = scene(0)
    with pytest.raises(InputError, match="do not fit"):
        published_update(fixed[1:], dynamic, probability, instance_type=types)
    with pytest.raises(InputError, match="softmax"):
        published_update(fixed, dynamic, np.log(probability), instance_type=types)
    with pytest.raises(InputError, match="softmax"):
        published_update(fixed, dynamic, probability * np.nan, instance_type=types)
    with pytest.raises(InputError, match="has the id"):
        published_update(fixed, dynamic, probability, instance_type=types[:2])
    with pytest.raises(InputError, match="one of them"):
        published_update(fixed, dynamic, probability, instance_type=types, attribution=probability[1:], passing=probability[1:] > 0)
