"""Faults planted in nuclei and types."""

from __future__ import annotations

import numpy as np
import pytest

from sjg.core import generator
from sjg.datasets._simulate_errors import confuse_types, jitter_nuclei, merge_nuclei, miss_nuclei


@pytest.fixture
def nuclei():
    labels = np.zeros((120, 120), np.int32)
    for i in range(100):
        y, x = 12 * (i // 10) + 3, 12 * (i % 10) + 3
        labels[y : y + 5, x : x + 5] = i + 1
    return labels


def test_missed(nuclei):
    left = miss_nuclei(generator(0, 1), nuclei, 0.2)
    ids = np.unique(left[left > 0])
    assert len(ids) == 80
    np.testing.assert_array_equal(left[left > 0], nuclei[left > 0])
    assert all((left == i).sum() == 25 for i in ids)


def test_merged(nuclei):
    merged = merge_nuclei(generator(0, 1), nuclei, 0.1)
    assert len(np.unique(merged)) == 91
    # nothing vanished, and who swallowed another has both and a bridge
    assert (merged[nuclei > 0] > 0).all()
    area = np.bincount(merged.ravel(), minlength=101)[1:]
    assert (area > 50).sum() == 10
    assert (area == 0).sum() == 10
    assert (area == 25).sum() == 80


def test_jittered(nuclei):
    moved = jitter_nuclei(generator(0, 1), nuclei, 2.0)
    area = np.bincount(moved.ravel(), minlength=101)[1:]
    assert area.min() >= 13
    assert area.max() <= 25
    assert 0.2 < (moved == nuclei)[nuclei > 0].mean() < 0.9
    np.testing.assert_array_equal(jitter_nuclei(generator(0, 1), nuclei, 0.0), nuclei)


def test_confused():
    types = np.random.default_rng(0).integers(0, 4, 1000)
    wrong = confuse_types(generator(0, 1), types, 4, 0.25)
    assert (wrong != types).sum() == 250
    assert wrong.min() >= 0
    assert wrong.max() < 4
    np.testing.assert_array_equal(confuse_types(generator(0, 1), np.zeros(5, int), 1, 1.0), np.zeros(5))
