"""One pass over the whole tissue: labels, and molecules assigned from molecules other than themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sjg.core import release, scratch_zeros
from sjg.training._fabric import share_of, sum_arrays, sum_over_ranks
from sjg.training._likelihood import molecule_rates
from sjg.training._model import CompetitionModel
from sjg.training._own_profiles import OwnProfiles
from sjg.training._parameters import Parameters
from sjg.training._state import CellState, Evidence
from sjg.training._tissue import Points, Tissue
from sjg.training._windows import Window, tiles

#: points evaluated at once
_CHUNK = 16384
#: tiles after which the memory of memory-mapped arrays is given back
_RELEASE_TILES = 8

#: makes an array of zeros: name, shape, type
ArrayFactory = Callable[[str, tuple[int, ...], np.dtype], NDArray[Any]]


def _scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    return scratch_zeros(shape, dtype)


def fold_of(molecule: NDArray[np.int64], seed: int, n_folds: int) -> NDArray[np.int64]:
    """Fold of each molecule, at random but from its index alone: nothing to store, and the same in every process."""
    # SplitMix64; the product wraps round
    x = molecule.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) % np.uint64(n_folds)).astype(np.int64)


@dataclass
class Prediction:
    """Result of a pass; zeros until its tiles are done.

    Parameters
    ----------
    labels
        (H, W) int32 winner of each pixel, 0 = background; not yet cleaned. None for a pass over molecules only.
    confidence
        (H, W) float16 posterior of the winner, None likewise.
    cell, cell_confidence
        (N,) cell of each of the tissue's molecules (0 = none) and its posterior.
    evidence
        Statistics for the next M step.
    n_done
        Tiles done by this process.
    """

    labels: NDArray[np.int32] | None
    confidence: NDArray[np.float16] | None
    cell: NDArray[np.int32]
    cell_confidence: NDArray[np.float32]
    evidence: Evidence
    n_done: int = 0

    @classmethod
    def empty(cls, tissue: Tissue, state: CellState, *, pixels: bool, array: ArrayFactory = _scratch) -> Prediction:
        """Before the first tile.

        Parameters
        ----------
        tissue, state
            What will be predicted.
        pixels
            False for a pass over molecules and a sample of pixels only (for another M step).
        array
            Makes the arrays: name, shape, type.
        """
        n = len(tissue.molecules)
        return cls(
            labels=array("labels", tissue.shape, np.dtype(np.int32)) if pixels else None,
            confidence=array("confidence", tissue.shape, np.dtype(np.float16)) if pixels else None,
            cell=array("cell", (n,), np.dtype(np.int32)),
            cell_confidence=array("cell_confidence", (n,), np.dtype(np.float32)),
            evidence=Evidence.empty(state),
        )

    def clear(self) -> None:
        """Start again."""
        for array in self.arrays():
            if array is not None and array.size:
                array[...] = 0
        self.n_done = 0

    def arrays(self) -> list[NDArray | None]:
        """All arrays."""
        return [self.labels, self.confidence, self.cell, self.cell_confidence]


def predict(
    model: CompetitionModel,
    tissue: Tissue,
    state: CellState,
    parameters: Parameters,
    *,
    into: Prediction,
    seed: int,
    fabric: Fabric,
    own: OwnProfiles | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Predict tile by tile, each process its share of the tiles.

    Molecules are split into folds; each fold is assigned from an input that holds the others, and pixels take the mean over the folds.
    What a tile gives depends on nothing but the arguments and its place, so that a pass may stop after any tile and go on later.

    Parameters
    ----------
    model
        Trained model.
    tissue
        Molecules and nuclei.
    state
        Estimates of the cells.
    parameters
        Settings.
    into
        Where results go; tiles done there already are left out.
    seed
        Of the folds of the molecules and the sample of pixels.
    fabric
        Device and processes.
    own
        Profiles of single cells for the assignment of molecules; None takes those of their types.
    on_tile
        Called with the number of tiles done by this process and of those that it has to do.

    Returns
    -------
    Prediction
        `into`, complete; the same in all processes.
    """
    model.eval()
    run = _Pass(model, tissue, state, parameters, prediction=into, seed=seed, own=own)
    windows = list(tiles(tissue.shape, parameters.tile_size_px))
    mine = share_of(fabric, len(windows))
    for number in mine[into.n_done :]:
        run.tile(windows[number], np.random.default_rng([seed, number]))
        into.n_done += 1
        if into.n_done % _RELEASE_TILES == 0:
            release(*into.arrays())
            tissue.release()
        if on_tile is not None:
            on_tile(into.n_done, len(mine))
    model.train()
    sum_arrays(fabric, *into.arrays())
    sum_over_ranks(fabric, into.evidence)
    into.evidence.exposure.fill_(1.0)
    release(*into.arrays())
    tissue.release()
    return into


class _Pass:
    """What the tiles of a pass share."""

    def __init__(
        self,
        model: CompetitionModel,
        tissue: Tissue,
        state: CellState,
        parameters: Parameters,
        *,
        prediction: Prediction,
        seed: int,
        own: OwnProfiles | None,
    ) -> None:
        self.model, self.tissue, self.state, self.parameters, self.own = model, tissue, state, parameters, own
        self.prediction, self.seed = prediction, seed

    @torch.no_grad()
    def tile(self, window: Window, rng: np.random.Generator) -> None:
        """Predict one tile."""
        tissue, evidence, prediction = self.tissue, self.prediction.evidence, self.prediction
        inside = tissue.molecules_in(window)
        prediction.cell_confidence[inside] = 1.0
        if prediction.confidence is not None:
            window.of(prediction.confidence)[:] = 1.0
        if not tissue.nuclei_near(window):
            gene = torch.as_tensor(tissue.molecules.gene[inside], dtype=torch.long, device=evidence.noise.device)
            evidence.noise.index_add_(0, gene, torch.ones_like(gene, dtype=evidence.noise.dtype))
            return
        nuclei = window.of(tissue.labels)
        if prediction.labels is not None:
            window.of(prediction.labels)[:] = nuclei
        halo = window.grown(self.parameters.halo_px)
        near = tissue.molecules_in(halo)
        grid, weight = self._pixels(window, rng)
        if len(inside) + len(grid):
            pixel_points = tissue.points(grid + 0.5, halo)
            molecule_points = tissue.points(tissue.molecules.yx_px[inside], halo)
            mean = self._folds(halo, near, inside, molecule_points, pixel_points)
            self._add_area(pixel_points, mean * weight)
            self._write(grid, pixel_points, mean)
        own, area = np.unique(nuclei[nuclei > 0] - 1, return_counts=True)
        device = evidence.area.device
        evidence.area.index_add_(
            0, torch.as_tensor(own, dtype=torch.long, device=device), torch.as_tensor(area.astype(np.float32), device=device)
        )

    def _pixels(self, window: Window, rng: np.random.Generator) -> tuple[NDArray[np.int64], float]:
        """Pixels outside nuclei to evaluate, and the area that each stands for."""
        y, x = np.nonzero(self.tissue.reachable(window))
        weight = 1.0
        n = self.parameters.points_per_patch
        if self.prediction.labels is None and len(y) > n:
            weight = len(y) / n
            chosen = rng.choice(len(y), n, replace=False)
            y, x = y[chosen], x[chosen]
        return np.stack([y + window.y0, x + window.x0], 1), weight

    def _folds(
        self, halo: Window, near: NDArray[np.int64], inside: NDArray[np.int64], molecule_points: Points, pixel_points: Points
    ) -> NDArray[np.float32]:
        """Assign the molecules fold by fold; returns the mean weights (P, M + 1) at the pixels."""
        n_folds = self.parameters.n_folds
        context = self.tissue.context(halo)
        total = np.zeros((len(pixel_points), self.parameters.n_candidates + 1), np.float32)
        fold_of_near, fold_of_inside = fold_of(near, self.seed, n_folds), fold_of(inside, self.seed, n_folds)
        for fold in range(n_folds):
            seen = near[fold_of_near != fold] if n_folds > 1 else near
            fraction = 1 - 1 / n_folds if n_folds > 1 else 1.0
            mine = np.flatnonzero(fold_of_inside == fold)
            points = Points.join(molecule_points[mine], pixel_points)
            if len(points) == 0:
                continue
            batch = self.tissue.batch(halo, context, seen, fraction, points, self.state)
            log_weight = self.model.log_weights(batch, self.state.log_profiles, self.state.log_prior, chunk=_CHUNK)
            self._assign(log_weight[: len(mine)], molecule_points[mine], inside[mine])
            total += log_weight[len(mine) :].exp().cpu().numpy()
        total /= n_folds
        return total

    def _assign(self, log_weight: torch.Tensor, points: Points, target: NDArray[np.int64]) -> None:
        if len(target) == 0:
            return
        device = log_weight.device
        candidate = torch.as_tensor(points.candidate, device=device)
        genes = self.tissue.molecules.gene[target]
        gene = torch.as_tensor(genes, dtype=torch.long, device=device)
        in_nucleus = torch.as_tensor(points.nucleus > 0, device=device)
        probability = None if self.own is None else self.own.probability(self.state, points.candidate, genes, target)
        by_cell, noise = molecule_rates(self.state, log_weight, candidate, gene, in_nucleus, self.model, probability=probability)
        rate = by_cell.sum(1) + noise
        self.prediction.evidence.add_molecules(self.state, candidate, gene, by_cell / rate[:, None], noise / rate)
        best, slot = (torch.cat([by_cell, noise[:, None]], 1) / rate[:, None]).max(1)
        self.prediction.cell[target] = points.winner(slot.cpu().numpy())
        self.prediction.cell_confidence[target] = best.cpu().numpy()

    def _add_area(self, points: Points, share: NDArray[np.float32]) -> None:
        area = self.prediction.evidence.area
        candidate = torch.as_tensor(points.candidate.reshape(-1), device=area.device)
        area.index_add_(0, candidate, torch.as_tensor(share[:, :-1].reshape(-1), device=area.device))

    def _write(self, grid: NDArray[np.int64], points: Points, mean: NDArray[np.float32]) -> None:
        labels, confidence = self.prediction.labels, self.prediction.confidence
        if labels is None or confidence is None or len(grid) == 0:
            return
        labels[grid[:, 0], grid[:, 1]] = points.winner(mean.argmax(1))
        confidence[grid[:, 0], grid[:, 1]] = mean.max(1)
