"""A simulated slide of any size, streamed to a SpatialData store: what is held is one block, whatever the area.

    python benchmarks/scale/stream.py slide.zarr --blocks 8 --genes 500 --transcripts 200

A slide is a square of blocks of 256 x 256 um (about 490 cells each). A few blocks are simulated (`sjg.datasets`), each with its own seed; every
place on the slide shows one of them, turned and mirrored. Cells of different places have different ids, so that nothing is shared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel
from spatialdata.transformations import Scale

import sjg
from sjg.datasets._simulate import TissueParameters, simulate
from sjg.datasets._simulate_types import synthetic_profiles

BLOCK_UM, PIXEL_UM = 256.0, 0.5
BLOCK_PX = int(BLOCK_UM / PIXEL_UM)
N_TYPES = 8


@dataclass(frozen=True)
class Slide:
    """Where the simulated blocks lie and how they are laid out: (n, n) index, turn and first id of each place."""

    folder: str
    index: np.ndarray
    turn: np.ndarray
    first_id: np.ndarray
    gene_names: tuple[str, ...]


@lru_cache(maxsize=2)
def block(folder: str, index: int) -> dict[str, np.ndarray]:
    return dict(np.load(Path(folder) / f"{index}.npz"))


def turned(raster: np.ndarray, turn: int) -> np.ndarray:
    raster = np.rot90(raster, turn % 4)
    return raster[:, ::-1] if turn >= 4 else raster


def raster_block(slide: Slide, name: str, row: int, column: int) -> np.ndarray:
    found = turned(block(slide.folder, int(slide.index[row, column]))[name], int(slide.turn[row, column]))
    if name == "image":
        return np.ascontiguousarray(found)[None]
    return np.where(found > 0, found + slide.first_id[row, column], 0).astype(np.int32)


def points_row(slide: Slide, row: int) -> pd.DataFrame:
    """The transcripts of a row of blocks, in micrometres."""
    frames = []
    for column in range(slide.index.shape[1]):
        found = block(slide.folder, int(slide.index[row, column]))
        yx, turn = found["yx"].astype(np.float64), int(slide.turn[row, column])
        for _ in range(turn % 4):  # np.rot90: (y, x) -> (side - x, y)
            yx = np.stack([BLOCK_PX - yx[:, 1], yx[:, 0]], 1)
        if turn >= 4:
            yx[:, 1] = BLOCK_PX - yx[:, 1]
        yx = np.clip(yx, 0, np.nextafter(BLOCK_PX, 0)) + np.array([row, column]) * BLOCK_PX
        true_cell = np.where(found["true_cell"] > 0, found["true_cell"] + slide.first_id[row, column], 0)
        frames.append(pd.DataFrame({"x": yx[:, 1] * PIXEL_UM, "y": yx[:, 0] * PIXEL_UM, "code": found["gene"], "true_cell": true_cell}))
    frame = pd.concat(frames, ignore_index=True)
    frame["gene"] = pd.Categorical.from_codes(frame.pop("code"), categories=list(slide.gene_names))
    return frame.astype({"true_cell": np.int32})


def lay_out(folder: str, n_blocks: int, n_genes: int, transcripts: float, n_distinct: int, seed: int) -> tuple[Slide, AnnData]:
    """Simulate the distinct blocks into `folder` and place them."""
    rng = np.random.default_rng(seed)
    profiles = synthetic_profiles(rng, n_cell_types=N_TYPES, n_genes=n_genes, n_markers_per_type=4)
    n_cells = []
    for i in range(n_distinct):
        tissue = simulate(seed + i, profiles, TissueParameters(size_um=(BLOCK_UM, BLOCK_UM), transcripts_per_cell=transcripts))
        t = tissue.transcripts
        np.savez(
            Path(folder) / f"{i}.npz",
            image=tissue.dapi,
            nuclei=tissue.nuclei,
            cells=tissue.cells,
            yx=t.yx_px.astype(np.float32),
            gene=t.gene.astype(np.int32),
            true_cell=t.true_cell.astype(np.int32),
        )
        n_cells.append(int(tissue.cells.max()))
    index = rng.integers(0, n_distinct, (n_blocks, n_blocks))
    size = np.array(n_cells)[index].ravel()
    first = (np.cumsum(size) - size).reshape(index.shape)
    reference = AnnData(
        profiles.means.astype(np.float32),
        obs=pd.DataFrame(index=list(profiles.type_names)),
        var=pd.DataFrame(index=list(profiles.gene_names)),
    )
    return Slide(folder, index, rng.integers(0, 8, index.shape), first, tuple(profiles.gene_names)), reference


def lazy_slide(slide: Slide, reference: AnnData) -> SpatialData:
    """The slide as an object of which every chunk is made when it is written."""
    n = slide.index.shape[0]
    make = dask.delayed(raster_block, pure=False)

    def raster(name: str, dtype: type, lead: tuple[int, ...]) -> da.Array:
        shape = (*lead, BLOCK_PX, BLOCK_PX)
        rows = [[da.from_delayed(make(slide, name, r, c), shape, dtype) for c in range(n)] for r in range(n)]
        return da.block(rows)

    to_um = {"global": Scale([PIXEL_UM, PIXEL_UM], axes=("x", "y"))}
    points = dd.from_delayed([dask.delayed(points_row)(slide, r) for r in range(n)], meta=points_row(slide, 0).iloc[:0], verify_meta=False)
    return SpatialData(
        images={
            "dapi": Image2DModel.parse(raster("image", np.uint16, (1,)), dims=("c", "y", "x"), c_coords=["dapi"], transformations=to_um)
        },
        labels={
            name: Labels2DModel.parse(raster(name, np.int32, ()), dims=("y", "x"), transformations=to_um) for name in ("nuclei", "cells")
        },
        points={"transcripts": PointsModel.parse(points, feature_key="gene")},
        tables={"reference": reference},
    )


def stream(path: Path, *, n_blocks: int, n_genes: int, transcripts: float = 200, n_distinct: int = 4, seed: int = 0) -> dict[str, float]:
    """Write the slide; returns what it holds."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=sjg.settings.scratch_dir) as folder:
        slide, reference = lay_out(folder, n_blocks, n_genes, transcripts, n_distinct, seed)
        with dask.config.set(scheduler="synchronous"):
            lazy_slide(slide, reference).write(path, overwrite=True)
        n_transcripts = sum(len(block(folder, int(i))["gene"]) for i in slide.index.ravel())
        n_cells = sum(int(block(folder, int(i))["cells"].max()) for i in slide.index.ravel())
    return {
        "blocks": n_blocks,
        "side_px": n_blocks * BLOCK_PX,
        "genes": n_genes,
        "cells": n_cells,
        "transcripts": n_transcripts,
        "seconds_to_stream": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--blocks", type=int, default=4, help="blocks along a side")
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--transcripts", type=float, default=200, help="mean per cell")
    parser.add_argument("--distinct", type=int, default=4, help="blocks that are simulated")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    print(json.dumps(stream(a.path, n_blocks=a.blocks, n_genes=a.genes, transcripts=a.transcripts, n_distinct=a.distinct, seed=a.seed)))


if __name__ == "__main__":
    main()
