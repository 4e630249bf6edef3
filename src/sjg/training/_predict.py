"""One pass over the whole tissue: labels, and molecules assigned by networks that have not seen them."""

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
from sjg.training._windows import tiles

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
        (H, W) float16 posterior of the winner.
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


@torch.no_grad()
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
    n_folds = parameters.n_folds
    n_molecules = len(tissue.molecules)
    fold = rng.integers(0, n_folds, n_molecules).astype(np.uint8)
    cell = np.zeros(n_molecules, np.int32)
    confidence = np.ones(n_molecules, np.float32)
    labels = tissue.labels.astype(np.int32).copy() if pixels else None
    pixel_confidence = np.ones(tissue.shape, np.float16) if pixels else None
    evidence = Evidence.empty(state)
    evidence.exposure += 1.0
    windows = list(tiles(tissue.shape, parameters.tile_size_px))
    for done, window in enumerate(windows):
        _sample = None
        if tissue.nuclei_near(window):
            halo = window.grown(parameters.halo_px)
            near = tissue.molecules_in(halo)
            inner = near[_inside(tissue, near, window)]
            reach = tissue.reachable(window)
            y, x = np.nonzero(reach)
            scale = 1.0
            if not pixels and len(y) > parameters.points_per_patch:
                _sample = rng.choice(len(y), parameters.points_per_patch, replace=False)
                scale = len(y) / parameters.points_per_patch
                y, x = y[_sample], x[_sample]
            grid = np.stack([y + window.y0, x + window.x0], 1)
            pixel_points = tissue.points(grid + 0.5, halo)
            molecule_points = tissue.points(tissue.molecules.yx_px[inner], halo)
            context = tissue.context(halo)
            total = np.zeros((len(grid), parameters.n_candidates + 1), np.float32)
            for f in range(n_folds):
                seen = near[fold[near] != f] if n_folds > 1 else near
                fraction = (1 - 1 / n_folds) if n_folds > 1 else 1.0
                mine = np.flatnonzero(fold[inner] == f)
                n_mine = len(mine)
                points = _join(molecule_points[mine], pixel_points)
                log_weight = _evaluate(model, tissue, halo, context, seen, fraction, points, state)
                target = inner[mine]
                _assign(model, tissue, state, log_weight[:n_mine], points[:n_mine], target, own, cell, confidence, evidence)
                total += log_weight[n_mine:].exp().cpu().numpy()
            total /= n_folds
            _add_area(evidence, tissue, window, pixel_points, total, scale)
            if labels is not None and pixel_confidence is not None and len(grid):
                best = total.argmax(1)
                n_candidates = parameters.n_candidates
                winner = pixel_points.candidate[np.arange(len(best)), np.minimum(best, n_candidates - 1)] + 1
                labels[grid[:, 0], grid[:, 1]] = np.where(best < n_candidates, winner, 0)
                pixel_confidence[grid[:, 0], grid[:, 1]] = total.max(1)
        else:
            gene = torch.as_tensor(tissue.molecules.gene[tissue.molecules_in(window)], dtype=torch.long, device=evidence.noise.device)
            evidence.noise.index_add_(0, gene, torch.ones_like(gene, dtype=evidence.noise.dtype))
        if on_tile is not None:
            on_tile(done + 1, len(windows))
    model.train()
    return Prediction(labels, pixel_confidence, cell, confidence, evidence)


def _evaluate(model, tissue, window, context, seen, fraction, points, state) -> torch.Tensor:  # type: ignore[no-untyped-def]
    batch = tissue.batch(window, context, seen, fraction, points, state)
    return model.log_weights(batch, state.log_profiles, state.log_prior, chunk=_CHUNK)


def _join(a: Points, b: Points) -> Points:
    return Points(*(np.concatenate([getattr(a, f), getattr(b, f)]) for f in Points.__dataclass_fields__))


def _inside(tissue: Tissue, index: NDArray[np.int64], window) -> NDArray[np.bool_]:  # type: ignore[no-untyped-def]
    y, x = tissue.molecules.yx_px[index, 0] - window.y0, tissue.molecules.yx_px[index, 1] - window.x0
    return (y >= 0) & (y < window.height) & (x >= 0) & (x < window.width)


def _assign(model, tissue, state, log_weight, points, target, own, cell, confidence, evidence) -> None:  # type: ignore[no-untyped-def]
    if len(target) == 0:
        return
    device = log_weight.device
    candidate = torch.as_tensor(points.candidate, device=device)
    gene = torch.as_tensor(tissue.molecules.gene[target], dtype=torch.long, device=device)
    in_nucleus = torch.as_tensor(points.nucleus > 0, device=device)
    probability = None if own is None else own.probability(state, points.candidate, tissue.molecules.gene[target], target)
    by_cell, noise = molecule_rates(state, log_weight, candidate, gene, in_nucleus, model, probability=probability)
    rate = by_cell.sum(1) + noise
    evidence.add_molecules(state, candidate, gene, by_cell / rate[:, None], noise / rate)
    posterior = torch.cat([by_cell, noise[:, None]], 1) / rate[:, None]
    best, slot = posterior.max(1)
    slot_n = slot.cpu().numpy()
    n_candidates = candidate.shape[1]
    winner = points.candidate[np.arange(len(slot_n)), np.minimum(slot_n, n_candidates - 1)] + 1
    cell[target] = np.where(slot_n < n_candidates, winner, 0)
    confidence[target] = best.cpu().numpy()


def _add_area(evidence, tissue, window, points, total, scale) -> None:  # type: ignore[no-untyped-def]
    device = evidence.area.device
    candidate = torch.as_tensor(points.candidate.reshape(-1), device=device)
    evidence.area.index_add_(0, candidate, torch.as_tensor(total[:, :-1].reshape(-1) * scale, device=device))
    nuclei = window.cut(tissue.labels)
    area = np.bincount(nuclei[nuclei > 0] - 1, minlength=len(evidence.area)).astype(np.float32)
    evidence.area += torch.as_tensor(area, device=device)
