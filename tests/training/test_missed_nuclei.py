"""Cells without a nucleus: found where transcripts tell of them, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import sjg
from sjg import training
from sjg.core import CellTypes, Molecules
from sjg.training import _missed_places, make_fabric, paint_nuclei

SIDE, RADIUS, N_GENES = 24, 5, 6


def add_missed_nuclei(*arguments, **options):
    return training.add_missed_nuclei(*arguments, fabric=make_fabric("cpu"), **options)


def chequerboard(missing=(), *, empty=(), n=7, per_cell=60, seed=0):
    """Square cells of two types in turn, a nucleus in the middle of each; some without a nucleus, some without anything."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n * SIDE, n * SIDE), np.int32)
    yy, xx = np.mgrid[: n * SIDE, : n * SIDE]
    profiles = np.array([[5, 4, 3, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 3, 4, 5]])
    yx, gene, initial, position = [], [], [], {}
    for row in range(n):
        for column in range(n):
            kind, centre = (row + column) % 2, (np.array([row, column]) + 0.5) * SIDE
            position[row, column] = centre
            if (row, column) in empty:
                continue
            yx.append(rng.uniform([row * SIDE, column * SIDE], [(row + 1) * SIDE, (column + 1) * SIDE], (per_cell, 2)))
            gene.append(rng.choice(N_GENES, per_cell, p=profiles[kind] / profiles[kind].sum()))
            if (row, column) not in missing:
                initial.append(kind)
                labels[np.hypot(yy + 0.5 - centre[0], xx + 0.5 - centre[1]) <= RADIUS] = len(initial)
    molecules = Molecules(
        np.concatenate(yx).astype(np.float32), np.concatenate(gene).astype(np.int32), tuple(f"g{g}" for g in range(N_GENES))
    )
    types = CellTypes(("a", "b"), np.array(initial, np.int32), np.full(len(initial), 0.9, np.float32), profiles)
    return molecules, labels, types, position


@pytest.mark.parametrize("with_profiles", [True, False])
def test_planted_cells_are_found_with_their_types(with_profiles):
    missing = [(1, 4), (3, 3), (5, 2)]
    molecules, labels, types, position = chequerboard(missing)
    if not with_profiles:
        types = replace(types, profiles=None)
    found = add_missed_nuclei(molecules, labels, types)
    n = len(types.initial)
    assert len(found) == 3
    assert (np.diff(found.score) <= 0).all()
    np.testing.assert_array_equal(found.labels[labels > 0], labels[labels > 0])
    assert set(np.unique(found.labels)) == set(range(n + 4))
    for k, (y, x) in enumerate(found.yx_px):
        row, column = int(y // SIDE), int(x // SIDE)
        assert (row, column) in missing
        assert np.hypot(*(position[row, column] - (y, x))) < 1.5 * RADIUS
        assert found.types.initial[n + k] == (row + column) % 2
        centre = ndimage.center_of_mass(found.labels == n + k + 1)
        np.testing.assert_allclose(centre, (y, x), atol=1)
    assert len(found.types.confidence) == n + 3
    assert found.types.names == types.names


def test_nothing_is_found_where_all_nuclei_show_or_where_there_are_no_transcripts():
    assert len(add_missed_nuclei(*chequerboard()[:3])) == 0
    molecules, labels, types, _ = chequerboard(empty=[(2, 2), (3, 5), (4, 4)])
    found = add_missed_nuclei(molecules, labels, types)
    assert len(found) == 0
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.types.initial, types.initial)


def test_a_patch_of_noise_is_less_of_a_cell_than_a_cell():
    molecules, labels, types, _ = chequerboard([(1, 4)], empty=[(3, 3)])
    rng = np.random.default_rng(1)
    noise = Molecules(
        np.concatenate([molecules.yx_px, rng.uniform(3 * SIDE, 4 * SIDE, (60, 2))]).astype(np.float32),
        np.concatenate([molecules.gene, rng.integers(0, N_GENES, 60)]).astype(np.int32),
        molecules.gene_names,
    )
    found = add_missed_nuclei(noise, labels, types, min_score=-10.0)
    np.testing.assert_array_equal(found.yx_px // SIDE, [(1, 4), (3, 3)])
    assert found.score[0] > found.score[1] + 2


def test_nuclei_beyond_the_transcripts_do_not_make_cells_of_noise():
    molecules, labels, types, _ = chequerboard([(1, 1)], n=8)
    rng = np.random.default_rng(3)
    here = molecules.yx_px[:, 1] < 3 * SIDE
    yx = np.concatenate([molecules.yx_px[here], rng.uniform(0, [8 * SIDE, 3 * SIDE], (80, 2))]).astype(np.float32)
    gene = np.concatenate([molecules.gene[here], rng.integers(0, N_GENES, 80)]).astype(np.int32)
    found = add_missed_nuclei(Molecules(yx, gene, molecules.gene_names), labels, types, min_score=-20.0)
    # over half of the nuclei win nothing; one place is a cell, the others are as far from it as where all win
    assert tuple(found.yx_px[0] // SIDE) == (1, 1)
    assert found.score[0] < 8
    assert (found.score[1:] < 0.5).all()


def test_tiles_do_not_change_the_result(monkeypatch):
    molecules, labels, types, _ = chequerboard([(1, 1), (1, 2), (4, 3), (5, 5)])
    whole = add_missed_nuclei(molecules, labels, types, min_score=2.0)
    monkeypatch.setattr(_missed_places, "_TILE_PX", 50)
    tiled = add_missed_nuclei(molecules, labels, types, min_score=2.0)
    np.testing.assert_array_equal(whole.yx_px, tiled.yx_px)
    np.testing.assert_array_equal(whole.labels, tiled.labels)
    np.testing.assert_allclose(whole.score, tiled.score)


def test_a_lower_score_keeps_what_a_higher_one_found():
    molecules, labels, types, _ = chequerboard([(1, 4), (3, 3)], per_cell=20)
    few, many = (add_missed_nuclei(molecules, labels, types, min_score=score) for score in (0.5, -5.0))
    assert len(few) < len(many)
    np.testing.assert_array_equal(few.yx_px, many.yx_px[: len(few)])


def test_painting_the_centres_gives_the_labels_again():
    molecules, labels, types, _ = chequerboard([(1, 4), (3, 3)])
    found = add_missed_nuclei(molecules, labels, types)
    np.testing.assert_array_equal(paint_nuclei(labels, found.yx_px), found.labels)
    assert paint_nuclei(labels, found.yx_px[:0]) is labels


@pytest.mark.parametrize("settings", [{}, {"coverage": 0.45}])
def test_most_of_what_is_found_on_simulated_tissue_is_real(settings):
    sdata = sjg.datasets.simulated_tissue(missed_fraction=0.1, random_state=11, **settings)
    truth = sdata["truth"].obs
    missed = truth["cell_id"][truth["nucleus_id"] == 0].to_numpy()
    ids, labels = np.unique(np.asarray(sdata["nuclei"]), return_inverse=True)
    points = sdata["transcripts"].compute()
    molecules = Molecules(
        (points[["y", "x"]].to_numpy() / 0.5).astype(np.float32),
        points["gene"].cat.codes.to_numpy(np.int32),
        tuple(points["gene"].cat.categories),
    )
    reference = sdata["reference"]
    initial = reference.obs_names.get_indexer(truth.set_index("cell_id")["cell_type"].astype(str)[ids[1:]]).astype(np.int32)
    types = CellTypes(tuple(reference.obs_names), initial, np.full(len(initial), 0.9, np.float32), reference.X)
    found = add_missed_nuclei(molecules, labels.reshape(sdata["nuclei"].shape).astype(np.int32), types)
    owner = np.asarray(sdata["cells"])[tuple(found.yx_px.T)]
    real = np.unique(owner[np.isin(owner, missed)])
    assert len(real) >= 0.85 * len(found)
    assert len(real) >= (0.45 if not settings else 0.8) * len(missed)
