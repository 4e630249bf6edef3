"""Each cell's own expression, shrunk to its type: what tells neighbours of one type apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from sjg.training._likelihood import gene_probability
from sjg.training._state import CellState

#: counts that the type is worth against the cell's own molecules; the best by leave-one-out is taken
_STRENGTHS = (20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1e6)
_SAMPLE = 200_000


@dataclass(frozen=True)
class OwnProfiles:
    """Counts of each cell and the weight of its type against them.

    Parameters
    ----------
    counts
        (n, G) molecules of each cell in an earlier pass.
    totals
        (n,) their sums.
    cell
        (N,) cell that each molecule had in that pass, 0 = none; a molecule never testifies for itself.
    strength
        Counts that the type's profile is worth.
    """

    counts: csr_array
    totals: NDArray[np.float32]
    cell: NDArray[np.int32]
    strength: float

    def probability(self, state: CellState, candidate: NDArray[np.int64], gene: NDArray[np.integer], molecule: NDArray[np.int64]) -> Tensor:
        """(P, M) leave-one-out probability of each molecule's gene under each candidate cell."""
        device = state.density.device
        by_type = gene_probability(state, torch.as_tensor(candidate, device=device), torch.as_tensor(gene, dtype=torch.long, device=device))
        flat = candidate.reshape(-1)
        found = np.asarray(self.counts[flat, np.repeat(gene, candidate.shape[1])]).reshape(candidate.shape)
        itself = candidate + 1 == self.cell[molecule][:, None]
        own = torch.as_tensor(found - itself, dtype=torch.float32, device=device)
        total = torch.as_tensor(self.totals[candidate] - itself, dtype=torch.float32, device=device)
        mixed: Tensor = (self.strength * by_type + own) / (self.strength + total)
        return mixed


def fit_own_profiles(state: CellState, cell: NDArray[np.int32], gene: NDArray[np.int32], *, rng: np.random.Generator) -> OwnProfiles | None:
    """Profiles from an earlier assignment; None where no cell has molecules.

    Parameters
    ----------
    state
        Estimates of the cells.
    cell, gene
        (N,) cell (0 = none) and gene of each molecule.
    rng
        Draws the molecules on which the strength is chosen.
    """
    assigned = np.flatnonzero(cell > 0)
    if len(assigned) == 0:
        return None
    n, n_genes = len(state.density), state.profiles.shape[1]
    ones = np.ones(len(assigned), np.float32)
    counts = csr_array((ones, (cell[assigned] - 1, gene[assigned])), shape=(n, n_genes))
    counts.sum_duplicates()
    totals = np.asarray(counts.sum(1), np.float32).ravel()
    sample = assigned if len(assigned) <= _SAMPLE else np.sort(rng.choice(assigned, _SAMPLE, replace=False))
    best, best_score = _STRENGTHS[-1], -np.inf
    for strength in _STRENGTHS:
        own = OwnProfiles(counts, totals, cell, strength)
        probability = own.probability(state, cell[sample][:, None].astype(np.int64) - 1, gene[sample], sample)
        score = float(torch.log(probability.clamp(min=1e-12)).sum())
        if score > best_score:
            best, best_score = strength, score
    return OwnProfiles(counts, totals, cell, best)
