"""Profiles of a reference as the assay of the tissue sees them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sjg.training import Parameters, Tissue
from sjg.training._calibration import calibrated


@pytest.fixture(scope="module")
def tissue(planted):
    return Tissue(planted.molecules, planted.nuclei, Parameters())


def _shares(profiles):
    return profiles / profiles.sum(1, keepdims=True)


def test_a_reference_of_another_assay_becomes_that_of_this_one(planted, tissue):
    rng = np.random.default_rng(0)
    truth = _shares(planted.types.profiles)
    other = replace(planted.types, profiles=truth * np.exp(1.2 * rng.standard_normal(12)) * 7)
    error_before = np.abs(_shares(other.profiles) - truth).sum(1)
    error_after = np.abs(calibrated(other, tissue).profiles - truth).sum(1)
    assert (error_before > 0.45).all()
    assert (error_after < 0.15).all()


def test_a_type_that_expresses_other_genes_here_follows_the_tissue(planted, tissue):
    truth = _shares(planted.types.profiles)
    # the second type's reference names two genes that it does not show, and lacks two that it does
    wrong = truth.copy()
    wrong[1, [1, 4]], wrong[1, [0, 3]] = truth[1, 0], truth[1, 1]
    found = calibrated(replace(planted.types, profiles=wrong), tissue).profiles
    assert np.abs(found[1] - truth[1]).sum() < 0.35 * np.abs(wrong[1] - truth[1]).sum()


def test_what_cannot_be_calibrated_stays(planted, tissue):
    without = replace(planted.types, profiles=None)
    assert calibrated(without, tissue) is without
    unknown = replace(planted.types, initial=np.full_like(planted.types.initial, -1))
    assert calibrated(unknown, tissue) is unknown


def test_types_that_no_nucleus_has_keep_their_shape_but_for_the_efficiencies(planted, tissue):
    truth = _shares(planted.types.profiles)
    absent = np.roll(truth[0], 5)
    more = replace(planted.types, names=(*planted.types.names, "absent"), profiles=np.vstack([truth, absent]))
    found = calibrated(more, tissue).profiles
    assert np.abs(found[3] - absent).sum() < 0.1
