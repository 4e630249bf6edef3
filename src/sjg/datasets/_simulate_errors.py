"""Faults planted in the nuclei and their types, such as a segmentation and an annotation make them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree


def miss_nuclei(rng: np.random.Generator, nuclei: NDArray[np.int32], fraction: float) -> NDArray[np.int32]:
    """Labels without `fraction` of the nuclei; the others keep their ids."""
    ids = np.unique(nuclei[nuclei > 0])
    keep = np.ones(int(nuclei.max(initial=0)) + 1, bool)
    keep[rng.permutation(ids)[: int(round(fraction * len(ids)))]] = False
    return np.where(keep[nuclei], nuclei, 0).astype(np.int32)


def merge_nuclei(rng: np.random.Generator, nuclei: NDArray[np.int32], fraction: float) -> NDArray[np.int32]:
    """Labels in which `fraction` of the nuclei have swallowed their nearest neighbour, which loses its id; a bridge joins the two.

    The closest pairs merge first, up to some chance, as in a real segmentation.
    """
    ids = np.unique(nuclei[nuclei > 0])
    n_merges = int(round(fraction * len(ids)))
    if n_merges == 0 or len(ids) < 2:
        return nuclei.copy()
    centre = np.asarray(ndimage.center_of_mass(nuclei > 0, nuclei, ids))
    distance, neighbour = cKDTree(centre).query(centre, k=2)
    windows = ndimage.find_objects(nuclei)
    merged = nuclei.copy()
    free = np.ones(len(ids), bool)
    for a in np.argsort(np.rint(1024 * distance[:, 1] * (1 + 0.3 * rng.random(len(ids)))), kind="stable"):
        b = int(neighbour[a, 1])
        if n_merges == 0:
            break
        if not (free[a] and free[b]):
            continue
        free[[a, b]] = False
        n_merges -= 1
        window = windows[ids[b] - 1]
        merged[window][nuclei[window] == ids[b]] = ids[a]
        n_steps = int(2 * np.abs(centre[a] - centre[b]).max()) + 2
        line = np.rint(np.linspace(centre[a], centre[b], n_steps)).astype(np.int64)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                y, x = np.clip(line[:, 0] + dy, 0, nuclei.shape[0] - 1), np.clip(line[:, 1] + dx, 0, nuclei.shape[1] - 1)
                empty = merged[y, x] == 0
                merged[y[empty], x[empty]] = ids[a]
    return merged


def jitter_nuclei(rng: np.random.Generator, nuclei: NDArray[np.int32], sigma_px: float) -> NDArray[np.int32]:
    """Labels in which each nucleus is shifted by a Gaussian step of `sigma_px` along each axis, as far as the others leave room.

    The shift is halved until at least a half of the nucleus lies on free pixels, so that no nucleus is lost.
    """
    step = sigma_px * rng.standard_normal((int(nuclei.max(initial=0)), 2))
    jittered = nuclei.copy()
    for i, window in enumerate(ndimage.find_objects(nuclei)):
        if window is None:
            continue
        rows, columns = np.nonzero(nuclei[window] == i + 1)
        rows, columns = rows + window[0].start, columns + window[1].start
        jittered[rows, columns] = 0
        shift = np.rint(step[i]).astype(np.int64)
        while True:
            y, x = rows + shift[0], columns + shift[1]
            inside = (y >= 0) & (y < nuclei.shape[0]) & (x >= 0) & (x < nuclei.shape[1])
            y, x = y[inside], x[inside]
            free = jittered[y, x] == 0
            if 2 * free.sum() >= len(rows) or not shift.any():
                break
            shift = np.trunc(shift / 2).astype(np.int64)
        jittered[y[free], x[free]] = i + 1
    return jittered


def confuse_types(rng: np.random.Generator, cell_type: NDArray[np.int64], n_cell_types: int, fraction: float) -> NDArray[np.int64]:
    """Types of which `fraction` are replaced by another, each other type with the same chance."""
    confused = cell_type.copy()
    if n_cell_types < 2:
        return confused
    chosen = rng.permutation(len(cell_type))[: int(round(fraction * len(cell_type)))]
    confused[chosen] = (cell_type[chosen] + rng.integers(1, n_cell_types, len(chosen))) % n_cell_types
    return confused
