"""Anchors pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sjg.core import InputError
from sjg.labels import anchors, attribution_agrees, attribution_in_top, drop_isolated, smooth_confidence


def scene(seed, n_types=3):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 2))
    ids = rng.integers(0, 5, shape)
    type_map = np.r_[0, rng.integers(1, n_types + 1, 4)][ids]
    probability = rng.dirichlet(np.ones(n_types + 1), shape).transpose(2, 0, 1)
    return rng, ids, type_map, probability


seeds = st.integers(0, 10_000)


@given(seeds, st.sampled_from([1, 3, 5]))
def test_confidence_is_the_mean_over_the_window(seed, window):
    _, _, _, probability = scene(seed)
    smooth, r = smooth_confidence(probability, window), window // 2
    for y, x in np.ndindex(smooth.shape):
        inside = probability[:, max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1].max(0)
        assert smooth[y, x] == pytest.approx(inside.mean())


@given(seeds)
def test_attribution_agreement(seed):
    rng, _, type_map, _ = scene(seed)
    attribution = rng.integers(0, 3, (3, *type_map.shape)).astype(float)
    absent = int(rng.integers(0, 4))
    if absent < 3:
        attribution[absent] = np.nan
    agrees = attribution_agrees(attribution, type_map)
    for y, x in np.ndindex(type_map.shape):
        k = type_map[y, x]
        rivals = [v for v in attribution[:, y, x] if not np.isnan(v)]
        expected = k > 0 and (k - 1 == absent or attribution[k - 1, y, x] == max(rivals))
        assert agrees[y, x] == expected


@given(seeds, st.sampled_from([0.1, 0.5, 1.0]))
def test_attribution_in_the_top(seed, fraction):
    rng, _, type_map, _ = scene(seed)
    attribution = rng.permuted(np.arange(3 * type_map.size)).reshape(3, *type_map.shape).astype(float)
    passes = attribution_in_top(attribution, type_map, fraction)
    allowed = int(np.ceil(fraction * type_map.size))
    for y, x in np.ndindex(type_map.shape):
        k = type_map[y, x]
        assert passes[y, x] == (k > 0 and (attribution[k - 1] > attribution[k - 1, y, x]).sum() < allowed)


def test_a_type_without_attribution_holds_no_pixel_back():
    attribution = np.full((2, 1, 3), np.nan)
    assert attribution_in_top(attribution, np.array([[1, 2, 0]]), 0.1).tolist() == [[True, True, False]]


@given(seeds, st.floats(0.2, 0.9), st.sampled_from([1, 3]))
def test_anchors(seed, threshold, window):
    rng, ids, type_map, probability = scene(seed)
    core, passes = rng.random(ids.shape) < 0.2, rng.random(ids.shape) < 0.7
    found = anchors(ids, type_map, probability, core=core, confidence_threshold=threshold, window_px=window, attribution_passes=passes)
    smooth = smooth_confidence(probability, window)
    for at in np.ndindex(ids.shape):
        joins = (
            ids[at] > 0
            and not core[at]
            and passes[at]
            and smooth[at] > threshold
            and np.argmax(probability[(slice(None), *at)]) == type_map[at]
        )
        assert found[at] == (ids[at] if joins else 0)


@given(seeds, st.integers(0, 8))
def test_votes(seed, min_votes):
    rng, ids, _, _ = scene(seed)
    core = rng.random(ids.shape) < 0.2
    kept = drop_isolated(ids, core, min_votes=min_votes)
    for y, x in np.ndindex(ids.shape):
        around = ids[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        votes = (around == ids[y, x]).sum() - 1
        assert kept[y, x] == (ids[y, x] if core[y, x] or votes >= min_votes else 0)


def test_arguments_out_of_range_are_refused():
    p, zero = np.full((2, 2, 2), 0.5), np.zeros((2, 2), int)
    with pytest.raises(InputError, match="odd"):
        smooth_confidence(p, 2)
    with pytest.raises(InputError, match="fraction"):
        attribution_in_top(p, zero, 0.0)
    with pytest.raises(InputError, match="do not fit"):
        attribution_agrees(p[:, :1], zero)
    with pytest.raises(InputError, match="has type 3"):
        attribution_agrees(p, zero + 3)
    with pytest.raises(InputError, match="neighbours"):
        drop_isolated(zero, zero > 0, min_votes=9)
