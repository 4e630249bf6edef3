"""A whole CODEX slide, simulated, from patches to quality out of core, stopped and resumed.

    python benchmarks/images/whole_slide.py --side 20000 --folder SCRATCH [--stages simulate patches segment match aggregate quality]

Every stage is a process of its own, so that its peak memory and CPU time are its own. The segmentation is killed (SIGKILL) when a third of its
patches are done, and resumed; with ``--compare`` it also runs without a stop, and the labels must be equal. Writes results/whole_slide.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
from slide import CHANNELS, make_slide

PIXEL_UM = 0.5
STAGES = ("simulate", "patches", "segment", "match", "aggregate", "quality")
RESULTS = Path(__file__).parent / "results" / "whole_slide.json"


def simulate(arguments: argparse.Namespace) -> dict:
    make_slide(arguments.folder / "slide.zarr", arguments.side)
    return {"image_gb": arguments.side**2 * len(CHANNELS) * 2 / 1e9}


def patches(arguments: argparse.Namespace) -> dict:
    import sjg

    sdata = opened(arguments)
    sjg.pp.patches(sdata, "slide", patch_size_px=arguments.patch, overlap=0.0, overwrite=True)
    sjg.pp.patch_quality(sdata, channel="dapi")
    return sdata["patches"]["status_robust"].value_counts().to_dict()


def segment(arguments: argparse.Namespace) -> dict:
    import sjg

    sdata = opened(arguments)
    sjg.tl.segment_image(
        sdata,
        "slide",
        nucleus_channel="dapi",
        membrane_channels="membrane",
        compartment="both",
        patches_key="patches",
        checkpoint_dir=arguments.folder / arguments.checkpoints,
        resume=True,
        max_memory_gb=arguments.max_memory_gb,
        overwrite=True,
    )
    return {name: digest(sdata.labels[f"image_{name}"]) for name in ("nuclei", "cells")}


def match(arguments: argparse.Namespace) -> dict:
    import sjg

    sdata = opened(arguments)
    sjg.tl.match_nuclei(sdata, "image_cells", "image_nuclei", pixel_size_um=PIXEL_UM, overwrite=True)
    table = sdata["matched_table"]
    facts = {key: table.uns["match_nuclei"][key] for key in ("n_cells", "n_nuclei", "n_matched", "retained_fraction")}
    return facts | {"cytoplasm": digest(sdata.labels["matched_cytoplasm"])}


def aggregate(arguments: argparse.Namespace) -> dict:
    import sjg

    sdata = opened(arguments)
    sjg.tl.aggregate_channels(sdata, "matched_cells", "slide", key_added="intensity", pixel_size_um=PIXEL_UM, overwrite=True)
    table = sdata["intensity"]
    return {"shape": list(table.shape), "mean": dict(zip(table.var_names, np.asarray(table.X).mean(axis=0).round(1).tolist(), strict=True))}


def quality(arguments: argparse.Namespace) -> dict:
    import sjg

    table = sjg.tl.segmentation_quality(
        opened(arguments),
        "image_cells",
        "slide",
        nuclei_key="image_nuclei",
        segmented_channels=["dapi", "membrane"],
        patches_key="patches",
        pixel_size_um=PIXEL_UM,
    )
    return table.iloc[0].drop("quality_score").round(4).to_dict()


def opened(arguments: argparse.Namespace):
    from spatialdata import read_zarr

    dask.config.set(scheduler="synchronous")
    return read_zarr(arguments.folder / "slide.zarr")


def digest(labels) -> dict:
    """How many labels there are, and a hash of every pixel."""
    data, code, largest = labels.data, hashlib.sha256(), 0
    for row in range(data.numblocks[0]):
        for column in range(data.numblocks[1]):
            block = np.ascontiguousarray(data.blocks[row, column].compute())
            code.update(block)
            largest = max(largest, int(block.max(initial=0)))
    return {"n": largest, "sha256": code.hexdigest()[:16]}


def run(stage: str, arguments: argparse.Namespace, checkpoints: str = "patches") -> dict:
    finished = subprocess.run(command(stage, arguments, checkpoints), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout.strip().splitlines()[-1])


def command(stage: str, arguments: argparse.Namespace, checkpoints: str) -> list[str]:
    options = {"side": arguments.side, "folder": arguments.folder, "patch": arguments.patch, "max-memory-gb": arguments.max_memory_gb}
    options |= {"checkpoints": checkpoints, "stage": stage}
    return [sys.executable, __file__, *(str(part) for name, value in options.items() for part in (f"--{name}", value))]


def killed_and_resumed(arguments: argparse.Namespace) -> dict:
    """The segmentation, killed when a third of the patches are done, and then run to its end."""
    folder = arguments.folder / "patches"
    shutil.rmtree(folder, ignore_errors=True)
    n_wanted = int(opened(arguments)["patches"]["informative"].sum())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    first = subprocess.Popen(command("segment", arguments, "patches"), stdout=subprocess.DEVNULL)
    while len(list(folder.glob("patch_*.npz"))) < max(1, n_wanted // 3) and first.poll() is None:
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {file.name: file.stat().st_mtime_ns for file in folder.glob("patch_*.npz")}
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    record = run("segment", arguments)
    record["cpu_seconds"] = round(record["cpu_seconds"] + spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime, 3)
    again = {file.name: file.stat().st_mtime_ns for file in folder.glob("patch_*.npz")}
    record |= {"patches_when_killed": len(kept), "patches_done_twice": sum(again[name] != stamp for name, stamp in kept.items())}
    if arguments.compare:
        shutil.rmtree(arguments.folder / "patches-without-stop", ignore_errors=True)
        whole = run("segment", arguments, "patches-without-stop")
        record["equal_to_a_run_without_a_stop"] = all(whole[name] == record[name] for name in ("nuclei", "cells"))
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--patch", type=int, default=2048)
    parser.add_argument("--max-memory-gb", type=float, default=1.0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoints", default="patches", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.stage:
        start = time.perf_counter()
        facts = globals()[arguments.stage](arguments)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        times = {"seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime}
        print(json.dumps({key: round(value, 3) for key, value in (times | {"peak_gb": usage.ru_maxrss / 1e6}).items()} | facts))
        return
    for stage in arguments.stages:
        record = killed_and_resumed(arguments) if stage == "segment" else run(stage, arguments)
        print(stage, json.dumps(record), flush=True)
        results = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
        results.setdefault(str(arguments.side), {})[stage] = record
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
