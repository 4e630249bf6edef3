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
#: nats per molecule by which cells of different types differ, below which purity cannot be measured, and what is assumed then: between
#: the middle of all the tissues that the claim network has seen and that of clean ones
_MIN_INFORMATION, ASSUMED_PURITY, ASSUMED_RING_PURITY = 0.05, 0.7, 0.45
_SAMPLE_CELLS = 1000
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
        molecules of these cells would give; typical values where types hardly differ, as in tissue of one type.
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

    # without it, evidence over expected evidence is noise, or a reference of another assay, over nothing
    measurable = _information(state) > _MIN_INFORMATION

    def purity(where: np.ndarray, assumed: float) -> float:
        if not measurable:
            return assumed
        mask = torch.as_tensor(where, device=device)
        total = float(expected[mask].sum())
        return float(np.clip(float(found[mask].sum()) / total, -0.5, 1.5)) if total > 1e-6 else 0.0

    return Scene(
        level=float(np.log(max(state.median_density * radius**2, 1e-3))),
        outside=_log_ratio_of(tissue.density_outside, tissue.density),
        far=_far(tissue, distance[holder == 0], len(gene) / max(len(taken), 1)),
        purity=purity(holder > 0, ASSUMED_PURITY),
        ring_purity=purity((holder == 0) & (distance < _RING_RADII * radius), ASSUMED_RING_PURITY),
    )


def _information(state: CellState) -> float:
    """What a molecule tells of its cell's type on average, in nats: profiles of an even sample of the cells against their mean."""
    profile = state.posterior[:: max(1, len(state.posterior) // _SAMPLE_CELLS)] @ state.profiles
    return float((profile * log_ratio(profile.T, profile.mean(0)).T).sum(1).mean())


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
