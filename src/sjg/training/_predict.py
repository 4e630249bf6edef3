"""One pass over the whole tissue: labels, and molecules assigned from molecules other than themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sjg.training._likelihood import molecule_rates
from sjg.training._model import CompetitionModel
from sjg.training._own_profiles import OwnProfiles
from sjg.training._parameters import Parameters
from sjg.training._state import CellState, Evidence
from sjg.training._tissue import Points, Tissue
from sjg.training._windows import Window, tiles

#: points evaluated at once
_CHUNK = 16384


@dataclass
class Prediction:
    """Result of a pass.

    Parameters
    ----------
    labels
        (H, W) int32 winner of each pixel, 0 = background; not yet cleaned. None for a pass over molecules only.
    confidence
        (H, W) float16 posterior of the winner, None likewise.
    cell, cell_confidence
        (N,) cell of each molecule (0 = none) and its posterior.
    evidence
        Statistics for the next M step.
    """

    labels: NDArray[np.int32] | None
    confidence: NDArray[np.float16] | None
    cell: NDArray[np.int32]
    cell_confidence: NDArray[np.float32]
    evidence: Evidence


def predict(
    model: CompetitionModel,
    tissue: Tissue,
    state: CellState,
    parameters: Parameters,
    *,
    rng: np.random.Generator,
    pixels: bool = True,
    own: OwnProfiles | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Predict tile by tile.

    Molecules are split into folds; each fold is assigned from an input that holds the others, and pixels take the mean over the folds.

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
    rng
        Draws the folds of the molecules.
    pixels
        False evaluates molecules and a sample of pixels only (for another M step).
    own
        Profiles of single cells for the assignment of molecules; None takes those of their types.
    on_tile
        Called with the number of tiles done and in all.
    """
    model.eval()
    run = _Pass(model, tissue, state, parameters, rng=rng, pixels=pixels, own=own)
    windows = list(tiles(tissue.shape, parameters.tile_size_px))
    for done, window in enumerate(windows):
        run.tile(window)
        if on_tile is not None:
            on_tile(done + 1, len(windows))
    model.train()
    return run.prediction


class _Pass:
    """The state of one pass."""

    def __init__(
        self,
        model: CompetitionModel,
        tissue: Tissue,
        state: CellState,
        parameters: Parameters,
        *,
        rng: np.random.Generator,
        pixels: bool,
        own: OwnProfiles | None,
    ) -> None:
        self.model, self.tissue, self.state, self.parameters, self.rng, self.own = model, tissue, state, parameters, rng, own
        n = len(tissue.molecules)
        self.fold = rng.integers(0, parameters.n_folds, n).astype(np.uint8)
        evidence = Evidence.empty(state)
        evidence.exposure += 1.0
        self.prediction = Prediction(
            labels=tissue.labels.astype(np.int32) if pixels else None,
            confidence=np.ones(tissue.shape, np.float16) if pixels else None,
            cell=np.zeros(n, np.int32),
            cell_confidence=np.ones(n, np.float32),
            evidence=evidence,
        )

    @torch.no_grad()
    def tile(self, window: Window) -> None:
        """Predict one tile."""
        tissue, evidence = self.tissue, self.prediction.evidence
        inside = tissue.molecules_in(window)
        if not tissue.nuclei_near(window):
            gene = torch.as_tensor(tissue.molecules.gene[inside], dtype=torch.long, device=evidence.noise.device)
            evidence.noise.index_add_(0, gene, torch.ones_like(gene, dtype=evidence.noise.dtype))
            return
        halo = window.grown(self.parameters.halo_px)
        near = tissue.molecules_in(halo)
        grid, weight = self._pixels(window)
        if len(inside) + len(grid):
            pixel_points = tissue.points(grid + 0.5, halo)
            molecule_points = tissue.points(tissue.molecules.yx_px[inside], halo)
            mean = self._folds(halo, near, inside, molecule_points, pixel_points)
            self._add_area(pixel_points, mean * weight)
            self._write(grid, pixel_points, mean)
        nuclei = window.cut(tissue.labels)
        area = np.bincount(nuclei[nuclei > 0] - 1, minlength=len(evidence.area)).astype(np.float32)
        evidence.area += torch.as_tensor(area, device=evidence.area.device)

    def _pixels(self, window: Window) -> tuple[NDArray[np.int64], float]:
        """Pixels outside nuclei to evaluate, and the area that each stands for."""
        y, x = np.nonzero(self.tissue.reachable(window))
        weight = 1.0
        n = self.parameters.points_per_patch
        if self.prediction.labels is None and len(y) > n:
            weight = len(y) / n
            chosen = self.rng.choice(len(y), n, replace=False)
            y, x = y[chosen], x[chosen]
        return np.stack([y + window.y0, x + window.x0], 1), weight

    def _folds(
        self, halo: Window, near: NDArray[np.int64], inside: NDArray[np.int64], molecule_points: Points, pixel_points: Points
    ) -> NDArray[np.float32]:
        """Assign the molecules fold by fold; returns the mean weights (P, M + 1) at the pixels."""
        n_folds = self.parameters.n_folds
        context = self.tissue.context(halo)
        total = np.zeros((len(pixel_points), self.parameters.n_candidates + 1), np.float32)
        for fold in range(n_folds):
            seen = near[self.fold[near] != fold] if n_folds > 1 else near
            fraction = 1 - 1 / n_folds if n_folds > 1 else 1.0
            mine = np.flatnonzero(self.fold[inside] == fold)
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
