"""One pass over the whole tissue: labels, and the cells of molecules."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sjg.core import Spread, release, scratch_zeros
from sjg.training._fabric import share_of, sum_arrays, sum_over_ranks
from sjg.training._judges import Judge
from sjg.training._parameters import Parameters
from sjg.training._state import CellState, Evidence
from sjg.training._tiles import JudgedTile, TileJob, judge_tile
from sjg.training._tissue import Tissue
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
    spread: Spread | None = None,
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
    spread
        Has tiles judged by the workers of a cluster, each with a copy of what it needs; None = by threads.
    on_tile
        Called with the number of tiles done by this process and of those that it has to do.

    Returns
    -------
    Prediction
        `into`, complete; the same in all processes.
    """
    run = _Pass(judge, tissue, parameters, prediction=into, seed=seed)
    windows = list(tiles(tissue.shape, tile_px))
    mine = share_of(fabric, len(windows))
    left = mine[into.n_done :]
    # Workers judge, this thread writes, in the order of the tiles: sums come out the same whoever was first.
    if spread is None:
        results = in_order(lambda number: judge_tile(run.job(number, windows[number])), left, n_workers)
    else:
        results = _by_cluster(spread, (run.job(number, windows[number]) for number in left))
    with closing(results):
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


def _by_cluster(spread: Spread, jobs: Iterable[TileJob]) -> Generator[list[JudgedTile]]:
    n_threads = torch.get_num_threads()
    try:
        yield from spread(judge_tile, ((job,) for job in jobs))
    finally:
        # workers may be threads of this process, and new threads take this number over from the last call
        torch.set_num_threads(n_threads)


class _Pass:
    """What the tiles of a pass share."""

    def __init__(self, judge: Judge, tissue: Tissue, parameters: Parameters, *, prediction: Prediction, seed: int = 0) -> None:
        self.judge, self.tissue, self.parameters, self.prediction, self.seed = judge, tissue, parameters, prediction, seed

    def job(self, number: int, window: Window) -> TileJob:
        """The job of a tile."""
        pixels = self.prediction.labels is not None
        return TileJob.cut(self.judge, self.tissue, window, self.parameters, seed=(self.seed, number), pixels=pixels)

    @torch.no_grad()
    def take_up(self, tile: JudgedTile) -> None:
        """Write one tile."""
        evidence, prediction = self.prediction.evidence, self.prediction
        inside, ids = self.tissue.molecules_in(tile.window), tile.ids()
        if tile.cell is None or tile.evidence is None:
            prediction.cell_confidence[inside] = 1.0
            if prediction.confidence is not None:
                tile.window.of(prediction.confidence)[:] = 1.0
            gene = torch.as_tensor(self.tissue.molecules.gene[inside], dtype=torch.long, device=evidence.noise.device)
            evidence.add_noise(self.judge.state, gene, torch.ones_like(gene, dtype=evidence.noise.dtype))
            return
        prediction.cell[inside], prediction.cell_confidence[inside] = ids[tile.cell], tile.cell_confidence
        evidence.add(tile.evidence, tile.nucleus)
        if prediction.labels is not None and prediction.confidence is not None:
            tile.window.of(prediction.labels)[:] = ids[tile.labels]
            tile.window.of(prediction.confidence)[:] = tile.confidence
