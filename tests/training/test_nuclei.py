"""Candidates: distances to outlines, order, padding."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sjg.core import InputError
from sjg.training._nuclei import measure_nuclei, nearest_candidates


def test_signed_distance_follows_the_exact_distance_transform(planted):
    nuclei = measure_nuclei(planted.nuclei)
    y, x = np.mgrid[10:80:7, 10:80:7]
    points = np.stack([y.ravel(), x.ravel()], 1) + 0.5
    index, signed, _ = nearest_candidates(nuclei, points, 3)
    exact, nearest = distance_transform_edt(planted.nuclei == 0, return_indices=True)
    outside = exact[y.ravel(), x.ravel()] > 1
    owner = planted.nuclei[nearest[0], nearest[1]][y.ravel(), x.ravel()]
    # Distances are to pixel edges here and to pixel centres there.
    assert np.abs(signed[outside, 0] - exact[y.ravel(), x.ravel()][outside]).max() < 1.2
    clear = outside & (signed[:, 1] - signed[:, 0] > 1.5)
    assert clear.sum() > 20
    np.testing.assert_array_equal(index[clear, 0] + 1, owner[clear])


def test_candidates_come_nearest_first_and_are_padded(planted):
    nuclei = measure_nuclei(planted.nuclei)
    _, signed, _ = nearest_candidates(nuclei, np.array([[20.0, 30.0]]), 6)
    assert (np.diff(signed[0]) >= 0).all()
    lone = measure_nuclei((planted.nuclei == 3).astype(np.int32))
    index, signed, centre = nearest_candidates(lone, np.array([[20.0, 30.0], [40.0, 40.0]]), 4)
    assert index.shape == (2, 4)
    assert (index == 0).all()
    assert np.isfinite(signed[:, 0]).all()
    assert np.isinf(signed[:, 1:]).all()
    assert np.isinf(centre[:, 1:]).all()


def test_missing_ids_are_refused(planted):
    with pytest.raises(InputError, match="Nucleus 2 has no pixel"):
        measure_nuclei(np.where(planted.nuclei == 2, 0, planted.nuclei))
    with pytest.raises(InputError, match="no nucleus"):
        measure_nuclei(np.zeros((4, 4), np.int32))
