"""Each cell's own expression, shrunk to its type: what tells neighbours of one type apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sjg.core import Buckets, release, scratch_zeros
from sjg.training._likelihood import gene_probability
from sjg.training._state import CellState

#: counts that the type is worth against the cell's own molecules; the best by leave-one-out is taken
_STRENGTHS = (20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1e6)
#: molecules on which that is decided, in runs of neighbours
_SAMPLE = 200_000
_SAMPLE_RUN = 1_000


@dataclass(frozen=True)
class OwnProfiles:
    """Genes of the molecules of each cell and the weight of its type against them.

    Parameters
    ----------
    gene
        Genes of the molecules that had no cell in an earlier pass, then of those of cell 1, of cell 2, ...
    starts
        (n + 2,) where each of these groups starts.
    cell
        (N,) cell that each molecule had in that pass, 0 = none; a molecule never testifies for itself.
    strength
        Counts that the type's profile is worth.
    """

    gene: NDArray[np.int32]
    starts: NDArray[np.int64]
    cell: NDArray[np.int32]
    strength: float

    def probability(self, state: CellState, candidate: NDArray[np.int64], gene: NDArray[np.integer], molecule: NDArray[np.int64]) -> Tensor:
        """(P, M) leave-one-out probability of each molecule's gene under each candidate cell."""
        return _mixed(self.strength, *self.counts(state, candidate, gene, molecule))

    def of(self, cells: NDArray[np.int64], molecules: NDArray[np.int64]) -> OwnProfiles:
        """Profiles of some of the cells (from 0) for some of the molecules, both numbered anew in the order given."""
        starts, stops = self.starts[cells + 1], self.starts[cells + 2]
        number = np.zeros(len(self.starts) - 1, np.int32)
        number[cells + 1] = np.arange(1, len(cells) + 1)
        gene = np.concatenate([self.gene[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)] or [self.gene[:0]])
        return OwnProfiles(gene, np.concatenate([[0, 0], np.cumsum(stops - starts)]), number[self.cell[molecules]], self.strength)

    def release(self) -> None:
        """Give back the memory in which parts of memory-mapped arrays are held."""
        release(self.gene, self.cell)

    def counts(
        self, state: CellState, candidate: NDArray[np.int64], gene: NDArray[np.integer], molecule: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(P, M) probability by type, count of the gene in the cell and count of all genes, without the molecule itself."""
        device = state.density.device
        by_type = gene_probability(state, torch.as_tensor(candidate, device=device), torch.as_tensor(gene, dtype=torch.long, device=device))
        cells, local = np.unique(candidate, return_inverse=True)
        local = local.reshape(candidate.shape)
        total = self.starts[cells + 2] - self.starts[cells + 1]
        n_genes = state.profiles.shape[1]
        # The cells that meet in one place are few: their counts are a small dense table.
        of_cells = np.concatenate([self.gene[self.starts[c + 1] : self.starts[c + 2]] for c in cells] or [self.gene[:0]])
        table = np.bincount(np.repeat(np.arange(len(cells)), total) * n_genes + of_cells, minlength=len(cells) * n_genes)
        itself = candidate + 1 == self.cell[molecule][:, None]
        own = table[local * n_genes + np.asarray(gene)[:, None]] - itself
        return (
            by_type,
            torch.as_tensor(own, dtype=torch.float32, device=device),
            torch.as_tensor(total[local] - itself, dtype=torch.float32, device=device),
        )


def fit_own_profiles(state: CellState, cell: NDArray[np.int32], gene: NDArray[np.int32], *, rng: np.random.Generator) -> OwnProfiles | None:
    """Profiles from an earlier assignment; None where no cell has molecules.

    Parameters
    ----------
    state
        Estimates of the cells.
    cell, gene
        (N,) cell (0 = none) and gene of each molecule; neighbours in the tissue are best near each other in these arrays.
    rng
        Draws the molecules on which the strength is chosen.
    """
    n_molecules, n_cells = len(cell), len(state.density)
    buckets = Buckets(lambda rows: cell[rows], n_molecules, n_cells + 1)
    if buckets.starts[1] == n_molecules:
        return None
    by_cell = scratch_zeros(n_molecules, np.int32)
    for rows, place in buckets.places():
        by_cell[place] = gene[rows]
        release(by_cell, cell, gene)
    own = OwnProfiles(by_cell, buckets.starts, cell, _STRENGTHS[-1])
    score = np.zeros(len(_STRENGTHS))
    for run in _sample(n_molecules, rng):
        molecule = run[cell[run] > 0]
        if len(molecule) == 0:
            continue
        found = own.counts(state, cell[molecule][:, None].astype(np.int64) - 1, gene[molecule], molecule)
        score += [float(torch.log(_mixed(s, *found).clamp(min=1e-12)).double().sum()) for s in _STRENGTHS]
    release(by_cell, cell, gene)
    return OwnProfiles(by_cell, buckets.starts, cell, _STRENGTHS[int(score.argmax())])


def _mixed(strength: float, by_type: Tensor, own: Tensor, total: Tensor) -> Tensor:
    return (strength * by_type + own) / (strength + total)


def _sample(n: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Runs of molecules: all of them where they are few."""
    starts = np.arange(0, n, _SAMPLE_RUN)
    if n > _SAMPLE:
        starts = np.sort(rng.choice(starts, _SAMPLE // _SAMPLE_RUN, replace=False))
    return [np.arange(start, min(start + _SAMPLE_RUN, n)) for start in starts.tolist()]
