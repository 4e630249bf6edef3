"""A small planted tissue in arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from sjg.core import CellTypes, Molecules


@dataclass(frozen=True)
class Planted:
    molecules: Molecules
    nuclei: NDArray[np.int32]
    cells: NDArray[np.int32]
    types: CellTypes
    true_cell: NDArray[np.int32]
    true_type: NDArray[np.int32]


def plant(*, side: int = 96, pitch: int = 16, n_types: int = 3, n_genes: int = 12, per_cell: int = 80, seed: int = 0) -> Planted:
    """Off-centre discs in a jittered grid of square cells with gaps; each type has its own genes."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((side, side), np.int32)
    nuclei = np.zeros((side, side), np.int32)
    y, x = np.mgrid[:side, :side] + 0.5
    n = 0
    for top in range(0, side - pitch + 1, pitch):
        for left in range(0, side - pitch + 1, pitch):
            n += 1
            cells[top + 1 : top + pitch - 1, left + 1 : left + pitch - 1] = n
            centre = np.array([top, left]) + pitch / 2 + rng.uniform(-2, 2, 2)
            nuclei[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= 3.6**2] = n
    true_type = rng.integers(0, n_types, n).astype(np.int32)
    profiles = np.full((n_types, n_genes), 0.2)
    for k in range(n_types):
        profiles[k, k::n_types] = 2.0
    probability = profiles / profiles.sum(1, keepdims=True)
    yx, gene, owner = [], [], []
    for i in range(1, n + 1):
        place = np.argwhere(cells == i)
        count = rng.poisson(per_cell)
        yx.append(place[rng.integers(len(place), size=count)] + rng.random((count, 2)))
        gene.append(rng.choice(n_genes, count, p=probability[true_type[i - 1]]))
        owner.append(np.full(count, i))
    noise = rng.poisson(0.02 * side * side)
    yx.append(rng.uniform(0, side, (noise, 2)))
    gene.append(rng.integers(0, n_genes, noise))
    owner.append(np.zeros(noise, int))
    position = np.minimum(np.concatenate(yx).astype(np.float32), np.nextafter(np.float32(side), np.float32(0)))
    molecules = Molecules(position, np.concatenate(gene).astype(np.int32), tuple(f"g{i}" for i in range(n_genes)))
    types = CellTypes(tuple("abc"[:n_types]), true_type, np.full(n, 0.9, np.float32), profiles)
    return Planted(molecules, nuclei, cells, types, np.concatenate(owner).astype(np.int32), true_type)


@pytest.fixture(scope="session")
def planted() -> Planted:
    return plant()


@pytest.fixture(scope="session")
def plant_tissue():
    """Function that plants a tissue."""
    return plant
