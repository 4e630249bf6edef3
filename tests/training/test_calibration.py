"""Profiles of a reference as the assay of the tissue sees them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sjg.training import Parameters, Tissue
from sjg.training._calibration import calibrated, counts_by_type


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
    efficiency = np.where(np.arange(12) % 3 == 0, 4.0, 1.0)
    absent = np.linspace(0.2, 2, 12)
    more = replace(planted.types, names=(*planted.types.names, "absent"), profiles=np.vstack([truth, absent]) / efficiency)
    found = calibrated(more, tissue).profiles
    assert np.abs(found[3] - absent / absent.sum()).sum() < 0.15
    assert np.abs(_shares(more.profiles)[3] - absent / absent.sum()).sum() > 0.3


def test_types_given_with_confidence_count_unless_their_nuclei_say_otherwise(planted, tissue):
    truth = _shares(planted.types.profiles)
    total = np.bincount(planted.molecules.gene, minlength=12).astype(float)
    wrong = planted.types.initial.copy()
    wrong[:5] = (wrong[:5] + 1) % 3
    wrong[5] = -1
    found = counts_by_type(replace(planted.types, initial=wrong), tissue, truth, total)
    nuclear = tissue.nucleus_of[np.isin(tissue.nucleus_of, np.flatnonzero(wrong >= 0) + 1)]
    assert found.sum() == pytest.approx(len(nuclear))
    counted = wrong >= 0
    size = np.bincount(tissue.nucleus_of, minlength=len(wrong) + 1)[1:]
    expected = np.bincount(planted.true_type[counted], weights=size[counted], minlength=3)
    np.testing.assert_allclose(found.sum(1), expected, rtol=0.05)


def test_nothing_hangs_on_how_many_molecules_are_read_at_once(planted, tissue, monkeypatch):
    other = replace(planted.types, profiles=planted.types.profiles * np.linspace(0.3, 3, 12))
    whole = calibrated(other, tissue).profiles
    monkeypatch.setattr("sjg.core.buckets._PART_ROWS", 700)
    np.testing.assert_allclose(calibrated(other, tissue).profiles, whole, rtol=1e-9)
