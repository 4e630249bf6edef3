"""A simulated CODEX slide of any size, written block by block: no more than a few blocks are ever in memory.

Tissue fills an ellipse, with bare glass around it. Nuclei and membranes come from one tile that continues on its other side; which cells express
a marker, and the noise, differ from block to block.
"""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

#: side of the tile of tissue, and of the chunks (a multiple of it)
TILE_PX = 1024
CHUNK_PX = 2048
CHANNELS = ("dapi", "membrane", *(f"marker{index}" for index in range(6)))
_PITCH_PX = TILE_PX / 51


def periodic_tissue(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cells, nuclei, membranes) of a tile; cells are 0..n - 1, and n where there is none, the others intensities from 0 to 1."""
    rng = np.random.default_rng(seed)
    count = round(TILE_PX / _PITCH_PX)
    grid = (np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij"), -1).reshape(-1, 2) + 0.5) * _PITCH_PX
    centres = (grid + rng.uniform(-4, 4, grid.shape)) % TILE_PX
    y, x = np.mgrid[:TILE_PX, :TILE_PX] + 0.5
    found = cKDTree(centres, boxsize=TILE_PX).query(np.column_stack([y.ravel(), x.ravel()]), distance_upper_bound=14)
    distance, cells = (part.reshape(TILE_PX, TILE_PX) for part in found)
    radius, brightness = np.append(rng.uniform(5.5, 7.5, len(centres)), 0.0), np.append(rng.uniform(0.5, 1.0, len(centres)), 0.0)
    nuclei = ndimage.gaussian_filter((distance < radius[cells]) * brightness[cells], 1.2, mode="wrap")
    rim = ndimage.maximum_filter(cells, 3, mode="wrap") != ndimage.minimum_filter(cells, 3, mode="wrap")
    return cells.astype(np.int32), nuclei.astype(np.float32), ndimage.gaussian_filter(rim.astype(np.float32), 1.0, mode="wrap")


def make_slide(path: Path, side: int, *, seed: int = 0) -> None:
    """Write a SpatialData store with ``images["slide"]``, eight uint16 channels of `side` x `side` pixels."""
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    repeats = (CHUNK_PX // TILE_PX,) * 2
    cells, nuclei, membrane = (np.tile(part, repeats) for part in periodic_tissue(seed))
    n_cells = int(cells.max()) + 1
    stains = {0: nuclei * np.float32(9000), 1: membrane * np.float32(6000)}
    grain = np.random.default_rng(seed).normal(400, 60, (CHUNK_PX, CHUNK_PX)).astype(np.float32)

    def block(block_info: dict | None = None) -> np.ndarray:
        (channel, _), (top, bottom), (left, right) = block_info[None]["array-location"]
        rng = np.random.default_rng([seed, channel, top, left])
        if channel in stains:
            signal = stains[channel]
        else:
            expressed = np.append(rng.random(n_cells - 1) < 0.3, False)
            signal = (expressed * np.float32(4000))[cells]
        y, x = ((np.arange(start, stop) + 0.5) / side - 0.5 for start, stop in ((top, bottom), (left, right)))
        inside = (y[:, None] / 0.42) ** 2 + (x[None, :] / 0.38) ** 2 < 1
        noise = np.roll(grain, tuple(rng.integers(0, CHUNK_PX, 2)), (0, 1))[: len(y), : len(x)]
        values = noise + inside * signal[: len(y), : len(x)]
        return values.clip(0, 65535).astype(np.uint16)[None]

    chunks = tuple(min(CHUNK_PX, side - start) for start in range(0, side, CHUNK_PX))
    image = da.map_blocks(block, chunks=((1,) * len(CHANNELS), chunks, chunks), dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    element = Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=list(CHANNELS))
    SpatialData(images={"slide": element}).write(path, overwrite=True)
