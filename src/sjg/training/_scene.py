"""Numbers that describe a tissue as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sjg.training._likelihood import gene_probability
from sjg.training._log_ratio import log_ratio
from sjg.training._nuclei import nearest_candidates
from sjg.training._state import CellState
from sjg.training._tissue import Tissue

_SAMPLE = 100_000
_SAMPLE_PIXELS = 40_000
_RING_RADII = 0.5
_FAR_RADII = 2.0
#: nats per molecule below which types differ too little to tell how pure a place is, and what is assumed then: between the middle of
#: all the tissues that the claim network has seen and that of clean ones
_MIN_EVIDENCE, _ASSUMED_PURITY, _ASSUMED_RING_PURITY = 0.05, 0.7, 0.45
#: molecules that the expected log density far from nuclei is worth, and what is expected there beside all of the outside
_FAR_STRENGTH, _FAR_EXPECTED = 3.0, 0.3


@dataclass(frozen=True)
class Scene:
    """What tells the claim network how far to trust what it sees.

    Parameters
    ----------
    level
        Log of the molecules per squared median radius in a typical nucleus.
    outside
        Log density outside nuclei, relative to that inside.
    far
        The same beyond two radii from any nucleus.
    purity, ring_purity
        Evidence of molecules for the nucleus that holds them, or that is less than half a radius away, over the evidence that
        molecules of these cells would give; a typical value in tissue of one type, where genes tell nothing.
    """

    level: float
    outside: float
    far: float
    purity: float
    ring_purity: float

    def channels(self) -> list[float]:
        """In the order in which the network takes them, brought to a common scale."""
        return [(self.level - 2) / 2, self.outside, self.far / 2, self.purity, self.ring_purity]


def measure_scene(tissue: Tissue, state: CellState) -> Scene:
    """Describe a tissue from an even sample of its molecules and pixels.

    Parameters
    ----------
    tissue
        Molecules and nuclei.
    state
        Estimates of the cells.
    """
    radius = tissue.radius_px
    yx, gene = tissue.molecules.yx_px, tissue.molecules.gene
    taken = np.arange(0, len(gene), max(1, len(gene) // _SAMPLE))
    candidate, signed, _ = nearest_candidates(tissue.nuclei, yx[taken], 1)
    nearest, distance = candidate[:, 0], signed[:, 0]
    holder = tissue.nucleus_of[taken]
    nearest = np.where(holder > 0, holder - 1, nearest)
    device = state.density.device
    genes = torch.as_tensor(gene[taken], dtype=torch.long, device=device)
    cells = torch.as_tensor(nearest, device=device)[:, None]
    found = log_ratio(gene_probability(state, cells, genes), state.prior_ambient[genes])[:, 0]
    # a sample this even has touched all of the mapped memory
    tissue.release()
    typical = (state.profiles * log_ratio(state.profiles.T, state.prior_ambient).T).sum(1)
    expected = (state.posterior @ typical)[cells[:, 0]]

    def purity(where: np.ndarray, assumed: float) -> float:
        mask = torch.as_tensor(where, device=device)
        total = float(expected[mask].sum())
        if total <= _MIN_EVIDENCE * int(where.sum()):
            return assumed
        return float(np.clip(float(found[mask].sum()) / total, -0.5, 1.5))

    return Scene(
        level=float(np.log(max(state.median_density * radius**2, 1e-3))),
        outside=_log_ratio_of(tissue.density_outside, tissue.density),
        far=_far(tissue, distance[holder == 0], len(gene) / max(len(taken), 1)),
        purity=purity(holder > 0, _ASSUMED_PURITY),
        ring_purity=purity((holder == 0) & (distance < _RING_RADII * radius), _ASSUMED_RING_PURITY),
    )


def _far(tissue: Tissue, distance_px: np.ndarray, weight: float) -> float:
    """Log density beyond two radii, shrunk to what is expected where hardly anything lies so far from nuclei."""
    height, width = tissue.shape
    step = max(1, int(np.sqrt(height * width / _SAMPLE_PIXELS)))
    rows, columns = np.arange(step // 2, height, step), np.arange(step // 2, width, step)
    pixels = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2) + 0.5
    _, signed, _ = nearest_candidates(tissue.nuclei, pixels, 1)
    limit = _FAR_RADII * tissue.radius_px
    area = float((signed[:, 0] > limit).mean()) * height * width
    count = float((distance_px > limit).sum()) * weight
    expected = _FAR_EXPECTED * tissue.density_outside / tissue.density
    return _log_ratio_of(count + _FAR_STRENGTH * expected, area * tissue.density + _FAR_STRENGTH)


def _log_ratio_of(a: float, b: float) -> float:
    return float(np.clip(np.log(max(a, 1e-12) / max(b, 1e-12)), -6.0, 3.0))
