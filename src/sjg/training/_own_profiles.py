"""Each cell's own expression, shrunk to its type: what tells neighbours of one type apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sjg.core import Buckets, release, scratch_zeros
from sjg.training._state import CellState

#: inverse dispersions of cells of one type (infinite: all the same); the best by leave-one-out is taken, where it is worth this many nats
_INVERSE_DISPERSIONS = (1e6, 80.0, 40.0, 20.0, 12.0, 8.0, 5.0, 3.0, 2.0, 1.0, 0.5)
_LEAST_GAIN = 2.0
#: molecules on which that is decided, in runs of neighbours
_SAMPLE = 200_000
_SAMPLE_RUN = 1_000
#: cells whose profiles are brought to sum 1 at a time, for there may be thousands of genes
_CELLS_AT_ONCE = 64


@dataclass(frozen=True)
class OwnProfiles:
    r"""Genes of the molecules of each cell and how far cells of one type differ.

    A cell expresses gene g at the rate of its type times a factor of its own, which is gamma distributed with mean 1 and variance
    :math:`1 / \alpha`: counts are negative binomial with the inverse dispersion :math:`\alpha`, as in pciSeq
    :cite:p:`qian2020pciseq`, which fixes it. With :math:`n_g` of its N molecules seen, and :math:`\theta` the profile of its type, the
    expected factor is about :math:`(\alpha + n_g) / (\alpha + N \theta_g)`: genes of which much is expected say more than rare ones.
    Factors cannot make a gene that the type hardly has. (A share of each cell that is composed as its molecules are, whatever the type, would:
    it predicts left-out molecules of CA1 better, and those that cells hold by mistake as well, so that simulated cells were less often right.)

    Parameters
    ----------
    gene
        Genes of the molecules that had no cell in an earlier pass, then of those of cell 1, of cell 2, ...
    starts
        (n + 2,) where each of these groups starts.
    cell
        (N,) cell that each molecule had in that pass, 0 = none; a molecule never testifies for itself.
    inverse_dispersion
        :math:`\alpha`.
    """

    gene: NDArray[np.int32]
    starts: NDArray[np.int64]
    cell: NDArray[np.int32]
    inverse_dispersion: float

    def probability(self, state: CellState, candidate: NDArray[np.int64], gene: NDArray[np.integer], molecule: NDArray[np.int64]) -> Tensor:
        """(P, M) leave-one-out probability of each molecule's gene under each candidate cell."""
        return self.counts(state, candidate, gene, molecule).probability(self.inverse_dispersion)

    def of(self, cells: NDArray[np.int64], molecules: NDArray[np.int64]) -> OwnProfiles:
        """Profiles of some of the cells (from 0) for some of the molecules, both numbered anew in the order given."""
        starts, stops = self.starts[cells + 1], self.starts[cells + 2]
        number = np.zeros(len(self.starts) - 1, np.int32)
        number[cells + 1] = np.arange(1, len(cells) + 1)
        gene = np.concatenate([self.gene[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)] or [self.gene[:0]])
        return replace(self, gene=gene, starts=np.concatenate([[0, 0], np.cumsum(stops - starts)]), cell=number[self.cell[molecules]])

    def release(self) -> None:
        """Give back the memory in which parts of memory-mapped arrays are held."""
        release(self.gene, self.cell)

    def counts(self, state: CellState, candidate: NDArray[np.int64], gene: NDArray[np.integer], molecule: NDArray[np.int64]) -> OwnCounts:
        """What the (P, M) candidates hold of the genes of P molecules, and of all genes, without these molecules themselves."""
        device = state.density.device
        genes = torch.as_tensor(gene, dtype=torch.long, device=device)
        cells, local = np.unique(candidate, return_inverse=True)
        total = self.starts[cells + 2] - self.starts[cells + 1]
        n_genes = state.profiles.shape[1]
        # The cells that meet in one place are few: their counts are a small dense table.
        of_cells = np.concatenate([self.gene[self.starts[c + 1] : self.starts[c + 2]] for c in cells] or [self.gene[:0]])
        table = np.bincount(np.repeat(np.arange(len(cells)), total) * n_genes + of_cells, minlength=len(cells) * n_genes).astype(np.float32)
        return OwnCounts(
            itself=torch.as_tensor(candidate + 1 == self.cell[molecule][:, None], device=device),
            gene=genes,
            local=torch.as_tensor(local.reshape(candidate.shape), device=device),
            table=torch.as_tensor(table, device=device).view(len(cells), n_genes),
            theta=_profiles(state, cells),
        )


@dataclass(frozen=True)
class OwnCounts:
    """Counts of C cells, for P molecules with M candidates among these.

    Parameters
    ----------
    itself
        (P, M) bool, whether the candidate's counts hold the molecule itself.
    gene, local
        (P,) genes, (P, M) row of the candidate.
    table, theta
        (C, G) counts, and probabilities by type.
    """

    itself: Tensor
    gene: Tensor
    local: Tensor
    table: Tensor
    theta: Tensor

    def probability(self, inverse_dispersion: float) -> Tensor:
        """(P, M) leave-one-out probability of each molecule's gene under each candidate; over all genes it sums to 1."""
        alpha, itself, of_cell = inverse_dispersion, self.itself.to(self.table.dtype), self.table.sum(1)
        by_type, own = self.theta[self.local, self.gene[:, None]], self.table[self.local, self.gene[:, None]] - itself
        # without the molecule itself, also in the sum over genes by which the profile is brought back to 1
        weight = alpha + (of_cell[self.local] - itself) * by_type
        with_it, without_it = self._norm(alpha, of_cell)[self.local], self._norm(alpha, of_cell - 1)[self.local] - by_type / weight
        return by_type * (alpha + own) / weight / torch.where(self.itself, without_it, with_it)

    def _norm(self, alpha: float, total: Tensor) -> Tensor:
        """(C,) sum of ``theta (alpha + n) / (alpha + total theta)`` over genes."""
        parts = zip(*(plane.split(_CELLS_AT_ONCE) for plane in (self.theta, self.table, total.clamp(min=0)[:, None])), strict=True)
        return torch.cat([total.new_zeros(0), *((theta * (alpha + n) / (alpha + t * theta)).sum(1) for theta, n, t in parts)])


def fit_own_profiles(state: CellState, cell: NDArray[np.int32], gene: NDArray[np.int32], *, rng: np.random.Generator) -> OwnProfiles | None:
    """Profiles from an earlier assignment; None where no cell has molecules.

    Parameters
    ----------
    state
        Estimates of the cells.
    cell, gene
        (N,) cell (0 = none) and gene of each molecule; neighbours in the tissue are best near each other in these arrays.
    rng
        Draws the molecules on which the inverse dispersion is chosen.
    """
    n_molecules, n_cells = len(cell), len(state.density)
    buckets = Buckets(lambda rows: cell[rows], n_molecules, n_cells + 1)
    if buckets.starts[1] == n_molecules:
        return None
    by_cell = scratch_zeros(n_molecules, np.int32)
    for rows, place in buckets.places():
        by_cell[place] = gene[rows]
        release(by_cell, cell, gene)
    own = OwnProfiles(by_cell, buckets.starts, cell, _INVERSE_DISPERSIONS[0])
    score = np.zeros(len(_INVERSE_DISPERSIONS))
    for run in _sample(n_molecules, rng):
        molecule = run[cell[run] > 0]
        if len(molecule) == 0:
            continue
        found = own.counts(state, cell[molecule][:, None].astype(np.int64) - 1, gene[molecule], molecule)
        score += [float(torch.log(found.probability(alpha).clamp(min=1e-12)).sum()) for alpha in _INVERSE_DISPERSIONS]
    release(by_cell, cell, gene)
    if score.max() - score[0] < _LEAST_GAIN:
        return own
    return replace(own, inverse_dispersion=_INVERSE_DISPERSIONS[int(score.argmax())])


def _profiles(state: CellState, cells: NDArray[np.int64]) -> Tensor:
    """(C, G) probability of each gene in some cells by their leading types."""
    index, weight = (values[torch.as_tensor(cells, device=state.density.device)] for values in state.leading_types())
    return torch.zeros(len(cells), state.profiles.shape[0], device=weight.device).scatter_add_(1, index, weight) @ state.profiles


def _sample(n: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Runs of molecules: all of them where they are few."""
    starts = np.arange(0, n, _SAMPLE_RUN)
    if n > _SAMPLE:
        starts = np.sort(rng.choice(starts, _SAMPLE // _SAMPLE_RUN, replace=False))
    return [np.arange(start, min(start + _SAMPLE_RUN, n)) for start in starts.tolist()]
