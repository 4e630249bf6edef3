"""Typing by what lies in and close around a nucleus."""

import numpy as np
import pytest
from scipy import ndimage

from sjg.core import generator
from sjg.datasets._simulate import TissueParameters, simulate
from sjg.datasets._simulate_types import synthetic_profiles
from sjg.pp._clustering import cluster_nuclei
from sjg.pp._typing import type_nuclei
from sjg.training import nucleus_or_ring

RADIUS = 10.0


def disks(shape: tuple[int, int], centres: list[tuple[float, float]]) -> np.ndarray:
    y, x = np.indices(shape) + 0.5
    labels = np.zeros(shape, np.int32)
    for i, (cy, cx) in enumerate(centres, 1):
        labels[np.hypot(y - cy, x - cx) < RADIUS] = i
    return labels


def nucleus_of(labels: np.ndarray, yx: np.ndarray) -> np.ndarray:
    return labels[tuple(np.floor(yx).astype(int).T)]


@pytest.fixture
def two_nuclei() -> tuple[np.ndarray, np.ndarray]:
    labels = disks((60, 120), [(30, 30), (30, 90)])
    yx = np.random.default_rng(0).uniform(0, 1, (4000, 2)) * labels.shape
    return labels, yx


def test_ring_is_that_of_a_distance_transform(two_nuclei: tuple[np.ndarray, np.ndarray]) -> None:
    """Scarce transcripts: the widest ring, to the resolution of the outlines."""
    labels, yx = two_nuclei
    yx = yx[:60]
    owner = nucleus_or_ring(labels, nucleus_of(labels, yx), yx, n_nuclei=2)
    y, x = np.floor(yx).astype(int).T
    distance, (near_y, near_x) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    nearest, distance = labels[near_y, near_x][y, x], distance[y, x]
    assert (owner[distance < 0.75 * RADIUS - 1.5] == nearest[distance < 0.75 * RADIUS - 1.5]).all()
    assert (owner[distance > 0.75 * RADIUS + 1.5] == 0).all()


def test_ring_is_no_wider_than_needed(two_nuclei: tuple[np.ndarray, np.ndarray]) -> None:
    labels, yx = two_nuclei
    inside = nucleus_of(labels, yx)
    assert (inside > 0).sum() > 50
    np.testing.assert_array_equal(nucleus_or_ring(labels, inside, yx, n_nuclei=2), inside)
    narrow = nucleus_or_ring(labels, inside, yx, n_nuclei=2, always=True)
    assert (narrow[inside > 0] == inside[inside > 0]).all()
    n_ring = ((narrow > 0) & (inside == 0)).sum() / (inside > 0).sum()
    assert n_ring == pytest.approx(1.25**2 - 1, rel=0.15)


def test_no_transcripts(two_nuclei: tuple[np.ndarray, np.ndarray]) -> None:
    labels, _ = two_nuclei
    assert nucleus_or_ring(labels, np.zeros(0, np.int32), np.zeros((0, 2)), n_nuclei=2).shape == (0,)


def test_types_are_found_where_nuclei_hold_few_transcripts() -> None:
    """Planted types: more nuclei are typed right, and clusters are nearer to the types, than by the nuclei alone."""
    from sklearn.metrics import adjusted_rand_score

    profiles = synthetic_profiles(generator(3, 0), n_cell_types=5, n_genes=60, n_markers_per_type=3)
    tissue = simulate(3, profiles, TissueParameters(size_um=(160, 160), transcripts_per_cell=25))
    nuclei, molecules, truth = tissue.nuclei, tissue.transcripts, tissue.cell_type
    inside = nucleus_of(nuclei, molecules.yx_px)
    right, agreement = [], []
    for owner in (inside, nucleus_or_ring(nuclei, inside, molecules.yx_px, n_nuclei=len(truth))):
        counts = np.zeros((len(truth), 60))
        np.add.at(counts, (owner[owner > 0] - 1, molecules.gene[owner > 0]), 1)
        right.append((type_nuclei(counts, profiles.means).argmax(1) == truth).mean())
        agreement.append(adjusted_rand_score(truth, cluster_nuclei(counts)[0]))
    assert right[1] > right[0] + 0.02
    assert agreement[1] > agreement[0] + 0.05
