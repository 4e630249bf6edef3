"""Judging one tile: a job that holds all that it needs, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sjg.training._judges import Judge
from sjg.training._parameters import Parameters
from sjg.training._plan import is_out_of_memory, smaller
from sjg.training._state import Evidence
from sjg.training._tissue import Points, Tissue, TissueView
from sjg.training._windows import Window, tiles
from sjg.training._workers import one_thread


@dataclass(frozen=True)
class TileJob:
    """A tile to judge, here or in another process.

    Parameters
    ----------
    window
        The tile.
    judge
        With copies of what it asks for; None where no nucleus is near.
    nucleus
        Index in the tissue of each of the judge's nuclei.
    parameters
        Settings.
    seed
        Of the sample of pixels.
    pixels
        Whether every pixel is judged, or a sample for the statistics alone.
    """

    window: Window
    judge: Judge | None
    nucleus: NDArray[np.int64]
    parameters: Parameters
    seed: tuple[int, ...]
    pixels: bool

    @classmethod
    def cut(cls, judge: Judge, tissue: Tissue, window: Window, parameters: Parameters, *, seed: tuple[int, ...], pixels: bool) -> TileJob:
        """The job of a tile of a tissue."""
        if not tissue.nuclei_near(window):
            return cls(window, None, np.zeros(0, np.int64), parameters, seed, pixels)
        return cls(window, *judge.of(tissue, window), parameters, seed, pixels)


@dataclass(frozen=True)
class JudgedTile:
    """What a tile says; its nuclei are numbered as in its job.

    Parameters
    ----------
    window
        The tile.
    nucleus
        (n,) index in the tissue of the nuclei 1..n.
    cell, cell_confidence
        (N,) cell of each molecule of the tile (0 = none) and its posterior; None where no nucleus is near.
    labels, confidence
        (H, W) winner of each pixel and its posterior; None without pixels, or where no nucleus is near.
    evidence
        Statistics of the n cells; None where no nucleus is near.
    """

    window: Window
    nucleus: NDArray[np.int64]
    cell: NDArray[np.integer] | None = None
    cell_confidence: NDArray[np.float32] | None = None
    labels: NDArray[np.integer] | None = None
    confidence: NDArray[np.float16] | None = None
    evidence: Evidence | None = None

    def ids(self) -> NDArray[np.int32]:
        """(n + 1,) ids in the tissue of 0 = none and of the nuclei."""
        return np.concatenate([[0], self.nucleus + 1]).astype(np.int32)


def judge_tile(job: TileJob) -> list[JudgedTile]:
    """Judge a tile, in quarters where memory runs out; with one thread of PyTorch, so that a tile is the same wherever it is judged."""
    if job.judge is None:
        return [JudgedTile(job.window, job.nucleus)]
    with one_thread():
        return _judged(job, job.judge, job.window, np.random.default_rng(list(job.seed)))


def _judged(job: TileJob, judge: Judge, window: Window, rng: np.random.Generator) -> list[JudgedTile]:
    try:
        return [judge_window(job, judge, window, rng)]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # what is reported is left, and with it the tensors of the frames that it holds
        side = smaller(max(window.height, window.width), error, "tile", judge.state.density.device)
    quarters = [w.moved(window.y0, window.x0) for w in tiles((window.height, window.width), side)]
    return [found for quarter in quarters for found in _judged(job, judge, quarter, rng)]


@torch.no_grad()
def judge_window(job: TileJob, judge: Judge, window: Window, rng: np.random.Generator) -> JudgedTile:
    """Judge a tile or a part of it; changes nothing but `rng`."""
    tissue, state = judge.tissue, judge.state
    halo = window.grown(job.parameters.halo_px)
    inside, labels = tissue.molecules_in(window), tissue.labels_in(window)
    grid, weight = _pixels(job, tissue, window, rng)
    pixels = tissue.points(grid + 0.5, halo)
    molecules = tissue.points(tissue.molecules.yx_px[inside], halo)
    evidence, confidence = Evidence.empty(state), np.ones(labels.shape, np.float16)
    cell, cell_confidence = np.zeros(len(inside), np.int32), np.ones(len(inside), np.float32)
    area = np.bincount(labels.ravel(), minlength=len(job.nucleus) + 1)[1:]
    if len(inside) + len(grid):
        source, place = judge(halo, inside, molecules, pixels)
        device = source.device
        gene = torch.as_tensor(tissue.molecules.gene[inside], dtype=torch.long, device=device)
        evidence.add_molecules(state, torch.as_tensor(molecules.candidate, device=device), gene, source[:, :-1], source[:, -1])
        share = (place[:, :-1] * weight).reshape(-1)
        evidence.area.index_add_(0, torch.as_tensor(pixels.candidate.reshape(-1), device=device), share)
        cell, cell_confidence = _winner(molecules, source)
        row, column = grid[:, 0] - window.y0, grid[:, 1] - window.x0
        labels[row, column], confidence[row, column] = _winner(pixels, place)
    evidence.area += torch.as_tensor(area.astype(np.float32), device=evidence.area.device)
    cell = cell.astype(labels.dtype)
    if not job.pixels:
        return JudgedTile(window, job.nucleus, cell, cell_confidence, evidence=evidence)
    return JudgedTile(window, job.nucleus, cell, cell_confidence, labels, confidence, evidence)


def _winner(points: Points, probability: torch.Tensor) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(P,) most probable candidate, 0 = none, and its probability."""
    best, slot = probability.max(1)
    return points.winner(slot.cpu().numpy()), best.cpu().numpy()


def _pixels(job: TileJob, tissue: TissueView, window: Window, rng: np.random.Generator) -> tuple[NDArray[np.int64], float]:
    """(P, 2) pixels outside nuclei to judge, and the area that each stands for."""
    y, x = np.nonzero(tissue.reachable(window))
    weight, n = 1.0, job.parameters.points_per_patch
    if not job.pixels and len(y) > n:
        weight = len(y) / n
        chosen = rng.choice(len(y), n, replace=False)
        y, x = y[chosen], x[chosen]
    return np.stack([y + window.y0, x + window.x0], 1), weight
