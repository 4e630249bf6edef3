"""A whole CODEX slide, simulated, segmented out of core, stopped and resumed.

    python benchmarks/images/whole_slide.py --side 20000 --folder SCRATCH

Makes a slide of side x side pixels and eight uint16 channels in a Zarr store (tissue in an ellipse, bare glass around it), cuts it into patches,
judges them, segments nuclei and cells in a process of its own that is killed on the way, resumes, and prints peak memory, times and counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

TILE_PX = 2000
CHANNELS = ["dapi", "membrane", *(f"marker{index}" for index in range(6))]


def periodic_tissue(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(cells, distance to the centre) of a tile that continues on its other side."""
    rng = np.random.default_rng(seed)
    pitch = 20.0
    count = int(TILE_PX / pitch)
    grid = (np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij"), -1).reshape(-1, 2) + 0.5) * pitch
    centres = (grid + rng.uniform(-4, 4, grid.shape)) % TILE_PX
    tree = cKDTree(centres, boxsize=TILE_PX)
    cells = np.empty((TILE_PX, TILE_PX), dtype=np.int32)
    distance = np.empty((TILE_PX, TILE_PX), dtype=np.float32)
    x = np.arange(TILE_PX) + 0.5
    for row in range(TILE_PX):
        distance[row], cells[row] = tree.query(np.column_stack([np.full(TILE_PX, row + 0.5), x]), distance_upper_bound=14)
    return cells, distance


def make_slide(path: Path, side: int) -> None:
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    cells, distance = periodic_tissue()
    n_cells = int(cells.max()) + 1
    rng = np.random.default_rng(1)
    radius = np.append(rng.uniform(5.5, 7.5, n_cells - 1), 0.0)
    brightness = np.append(rng.uniform(0.5, 1.0, n_cells - 1), 0.0)
    wrap = {"mode": "wrap"}
    nuclei = ndimage.gaussian_filter((distance < radius[cells]) * brightness[cells], 1.2, **wrap)
    rim = (ndimage.maximum_filter(cells, 3, **wrap) != ndimage.minimum_filter(cells, 3, **wrap)).astype(np.float32)
    membrane = ndimage.gaussian_filter(rim, 1.0, **wrap)

    def block(block_info: dict | None = None) -> np.ndarray:
        channel, y, x = (start for start, _ in block_info[None]["array-location"])
        shape = tuple(stop - start for start, stop in block_info[None]["array-location"][1:])
        noise = np.random.default_rng([channel, y, x])
        rows, columns = np.arange(y, y + shape[0]), np.arange(x, x + shape[1])
        inside = ((rows[:, None] / side - 0.5) / 0.42) ** 2 + ((columns[None, :] / side - 0.5) / 0.38) ** 2 < 1
        tile = np.ix_(rows % TILE_PX, columns % TILE_PX)
        if channel == 0:
            signal = nuclei[tile] * 9000
        elif channel == 1:
            signal = membrane[tile] * 6000
        else:
            expressed = np.random.default_rng([channel, y // TILE_PX, x // TILE_PX]).random(n_cells) < 0.3
            expressed[-1] = False
            signal = expressed[cells[tile]] * 4000.0
        values = 400 + np.where(inside, signal, 0) + noise.normal(0, 60, shape)
        return values.clip(0, 65535).astype(np.uint16)[None]

    chunks = tuple(min(TILE_PX, side - start) for start in range(0, side, TILE_PX))
    image = da.map_blocks(block, chunks=((1,) * len(CHANNELS), chunks, chunks), dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    element = Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=CHANNELS)
    SpatialData(images={"slide": element}).write(path, overwrite=True)


def segment(path: Path, folder: Path, max_memory_gb: float) -> None:
    from spatialdata import read_zarr

    import sjg

    dask.config.set(scheduler="synchronous")
    sdata = read_zarr(path)
    start = time.perf_counter()
    sjg.tl.segment_image(
        sdata,
        "slide",
        nucleus_channel="dapi",
        membrane_channels="membrane",
        compartment="both",
        patches_key="patches",
        checkpoint_dir=folder,
        resume=True,
        max_memory_gb=max_memory_gb,
        overwrite=True,
    )
    sizes = {name: int(sdata.labels[f"image_{name}"].max().compute()) for name in ("nuclei", "cells")}
    record = {"seconds": time.perf_counter() - start, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, **sizes}
    print(json.dumps(record))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--patch", type=int, default=2048)
    parser.add_argument("--max-memory-gb", type=float, default=1.0)
    parser.add_argument("--stage", choices=["all", "segment"], default="all")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "whole_slide.json")
    arguments = parser.parse_args()
    path, patches = arguments.folder / "slide.zarr", arguments.folder / "patches"
    if arguments.stage == "segment":
        segment(path, patches, arguments.max_memory_gb)
        return
    from spatialdata import read_zarr

    import sjg

    dask.config.set(scheduler="synchronous")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(patches, ignore_errors=True)
    start = time.perf_counter()
    make_slide(path, arguments.side)
    record = {"side_px": arguments.side, "channels": len(CHANNELS), "seconds_simulating": time.perf_counter() - start}
    print(json.dumps(record), flush=True)
    sdata = read_zarr(path)
    start = time.perf_counter()
    sjg.pp.patches(sdata, "slide", patch_size_px=arguments.patch, overlap=0.0)
    sjg.pp.patch_quality(sdata, channel="dapi")
    record |= {"seconds_patch_quality": time.perf_counter() - start, "patches": sdata["patches"]["status_robust"].value_counts().to_dict()}
    n_informative = int(sdata["patches"]["informative"].sum())
    del sdata
    command = [sys.executable, __file__, "--stage", "segment", "--folder", str(arguments.folder)]
    command += ["--max-memory-gb", str(arguments.max_memory_gb)]
    first = subprocess.Popen(command)
    while len(list(patches.glob("patch_*.npz"))) < n_informative // 3 and first.poll() is None:
        time.sleep(1)
    first.kill()
    first.wait()
    kept = {file.name: file.stat().st_mtime_ns for file in patches.glob("patch_*.npz")}
    record["patches_when_killed"] = len(kept)
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    again = {file.name: file.stat().st_mtime_ns for file in patches.glob("patch_*.npz")}
    record["patches_done_twice"] = sum(again[name] != stamp for name, stamp in kept.items())
    record |= {"after_resume": json.loads(second.stdout.strip().splitlines()[-1])}
    record["image_gb"] = arguments.side**2 * len(CHANNELS) * 2 / 1e9
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
