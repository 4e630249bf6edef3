"""One pass over the whole tissue: labels, and the cells of molecules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sjg.core import release, scratch_zeros
from sjg.training._fabric import share_of, sum_arrays, sum_over_ranks
from sjg.training._judges import Judge
from sjg.training._parameters import Parameters
from sjg.training._plan import is_out_of_memory, smaller
from sjg.training._state import CellState, Evidence
from sjg.training._tissue import Points, Tissue
from sjg.training._windows import Window, tiles
from sjg.training._workers import in_order

#: tiles after which the memory of memory-mapped arrays is given back
RELEASE_TILES = 8

#: makes an array of zeros: name, shape, type
ArrayFactory = Callable[[str, tuple[int, ...], np.dtype], NDArray[Any]]


def _scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    return scratch_zeros(shape, dtype)


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
    judge: Judge,
    tissue: Tissue,
    parameters: Parameters,
    *,
    into: Prediction,
    tile_px: int,
    seed: int,
    fabric: Fabric,
    n_workers: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Predict tile by tile, each process its share of the tiles.

    What a tile gives depends on nothing but the arguments and its place, so that a pass may stop after any tile and go on later.

    Parameters
    ----------
    judge
        Says whose pixels and molecules are.
    tissue
        Molecules and nuclei.
    parameters
        Settings.
    into
        Where results go; tiles done there already are left out.
    tile_px
        Side of the tiles; one for which memory runs out is quartered.
    seed
        Of the sample of pixels.
    fabric
        Device and processes.
    n_workers
        Threads that judge tiles; the result does not depend on their number.
    on_tile
        Called with the number of tiles done by this process and of those that it has to do.

    Returns
    -------
    Prediction
        `into`, complete; the same in all processes.
    """
    run = _Pass(judge, tissue, parameters, prediction=into)
    windows = list(tiles(tissue.shape, tile_px))
    mine = share_of(fabric, len(windows))

    def judged(number: int) -> list[JudgedTile]:
        return run.judged(windows[number], np.random.default_rng([seed, number]))

    # Workers judge, this thread writes, in the order of the tiles: sums come out the same whoever was first.
    with closing(in_order(judged, mine[into.n_done :], n_workers)) as results:
        for parts in results:
            for part in parts:
                run.take_up(part)
            into.n_done += 1
            if into.n_done % RELEASE_TILES == 0:
                release(*into.arrays())
                tissue.release()
            if on_tile is not None:
                on_tile(into.n_done, len(mine))
    sum_arrays(fabric, *into.arrays())
    sum_over_ranks(fabric, into.evidence)
    into.evidence.exposure.fill_(1.0)
    release(*into.arrays())
    tissue.release()
    return into


@dataclass(frozen=True)
class JudgedTile:
    """What a tile says, before it is written.

    Parameters
    ----------
    window
        The tile.
    inside
        Molecules inside it.
    grid
        (P, 2) pixels that were judged; None where no nucleus is near.
    weight
        Area that each of them stands for.
    molecules, pixels
        Their candidates; None where there are neither.
    source, place
        Their probabilities, see :class:`sjg.training._judges.Judge`.
    """

    window: Window
    inside: NDArray[np.int64]
    grid: NDArray[np.int64] | None = None
    weight: float = 1.0
    molecules: Points | None = None
    pixels: Points | None = None
    source: torch.Tensor | None = None
    place: torch.Tensor | None = None


class _Pass:
    """What the tiles of a pass share."""

    def __init__(self, judge: Judge, tissue: Tissue, parameters: Parameters, *, prediction: Prediction) -> None:
        self.judge, self.tissue, self.parameters, self.prediction = judge, tissue, parameters, prediction

    def judged(self, window: Window, rng: np.random.Generator) -> list[JudgedTile]:
        """Judge one tile, in quarters where memory runs out."""
        try:
            return [self.tile(window, rng)]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # what is reported is left, and with it the tensors of the frames that it holds
            side = smaller(max(window.height, window.width), error, "tile", self.prediction.evidence.area.device)
        parts = [Window(window.y0 + p.y0, window.x0 + p.x0, p.height, p.width) for p in tiles((window.height, window.width), side)]
        return [found for part in parts for found in self.judged(part, rng)]

    @torch.no_grad()
    def tile(self, window: Window, rng: np.random.Generator) -> JudgedTile:
        """Judge one tile; changes nothing, so that several threads may do it at once."""
        inside = self.tissue.molecules_in(window)
        if not self.tissue.nuclei_near(window):
            return JudgedTile(window, inside)
        halo = window.grown(self.parameters.halo_px)
        grid, weight = self._pixels(window, rng)
        if len(inside) + len(grid) == 0:
            return JudgedTile(window, inside, grid=grid)
        pixels = self.tissue.points(grid + 0.5, halo)
        molecules = self.tissue.points(self.tissue.molecules.yx_px[inside], halo)
        return JudgedTile(window, inside, grid, weight, molecules, pixels, *self.judge(halo, inside, molecules, pixels))

    @torch.no_grad()
    def take_up(self, tile: JudgedTile) -> None:
        """Write one tile."""
        evidence, prediction = self.prediction.evidence, self.prediction
        prediction.cell_confidence[tile.inside] = 1.0
        if prediction.confidence is not None:
            tile.window.of(prediction.confidence)[:] = 1.0
        if tile.grid is None:
            gene = torch.as_tensor(self.tissue.molecules.gene[tile.inside], dtype=torch.long, device=evidence.noise.device)
            evidence.noise.index_add_(0, gene, torch.ones_like(gene, dtype=evidence.noise.dtype))
            return
        nuclei = tile.window.of(self.tissue.labels)
        if prediction.labels is not None:
            tile.window.of(prediction.labels)[:] = nuclei
        if tile.molecules is not None and tile.pixels is not None and tile.source is not None and tile.place is not None:
            self._assign(tile.source, tile.molecules, tile.inside)
            self._add_area(tile.pixels, tile.place[:, :-1] * tile.weight)
            self._write(tile.grid, tile.pixels, tile.place.cpu().numpy())
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

    def _assign(self, probability: torch.Tensor, points: Points, target: NDArray[np.int64]) -> None:
        """Take up (N, M + 1) probabilities of molecules."""
        if len(target) == 0:
            return
        candidate = torch.as_tensor(points.candidate, device=probability.device)
        gene = torch.as_tensor(self.tissue.molecules.gene[target], dtype=torch.long, device=probability.device)
        self.prediction.evidence.add_molecules(self.judge.state, candidate, gene, probability[:, :-1], probability[:, -1])
        best, slot = probability.max(1)
        self.prediction.cell[target] = points.winner(slot.cpu().numpy())
        self.prediction.cell_confidence[target] = best.cpu().numpy()

    def _add_area(self, points: Points, share: torch.Tensor) -> None:
        candidate = torch.as_tensor(points.candidate.reshape(-1), device=share.device)
        self.prediction.evidence.area.index_add_(0, candidate, share.reshape(-1))

    def _write(self, grid: NDArray[np.int64], points: Points, mean: NDArray[np.float32]) -> None:
        labels, confidence = self.prediction.labels, self.prediction.confidence
        if labels is None or confidence is None or len(grid) == 0:
            return
        labels[grid[:, 0], grid[:, 1]] = points.winner(mean.argmax(1))
        confidence[grid[:, 0], grid[:, 1]] = mean.max(1)
