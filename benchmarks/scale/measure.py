"""One run of `sjg.tl.segment` on a store: wall and CPU time and peak memory of every phase, as one line of JSON.

    python benchmarks/scale/measure.py slide.zarr --preset fast

Memory is that of this process, from /proc: "resident" counts pages of memory-mapped files that are in memory at the moment, "anonymous" does
not (the system can drop the former at any time).
"""

from __future__ import annotations

import argparse
import json
import logging
import threading
import time
from pathlib import Path

import spatialdata
import torch

import sjg


class Meter(logging.Handler):
    """Time and memory by phase; phases are taken from the log."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: dict[str, dict[str, float]] = {}
        self._phase, self._stop = "import", threading.Event()
        self._since = time.perf_counter(), time.process_time()
        threading.Thread(target=self._watch, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "phase %s":
            self.enter(str(record.args[0]))

    def enter(self, phase: str) -> None:
        now = time.perf_counter(), time.process_time()
        at = self.phases.setdefault(self._phase, dict.fromkeys(("wall_s", "cpu_s", "resident_mib", "anonymous_mib"), 0.0))
        at["wall_s"] += now[0] - self._since[0]
        at["cpu_s"] += now[1] - self._since[1]
        self._phase, self._since = phase, now
        self.phases.setdefault(phase, dict.fromkeys(at, 0.0))

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            found = {}
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in ("VmRSS", "RssAnon"):
                    found[name] = int(value.split()[0]) / 1024
            at = self.phases.setdefault(self._phase, dict.fromkeys(("wall_s", "cpu_s", "resident_mib", "anonymous_mib"), 0.0))
            at["resident_mib"] = max(at["resident_mib"], found["VmRSS"])
            at["anonymous_mib"] = max(at["anonymous_mib"], found["RssAnon"])

    def finish(self) -> dict[str, dict[str, float]]:
        self.enter("end")
        self._stop.set()
        del self.phases["end"]
        return {name: {k: round(v, 1) for k, v in at.items()} for name, at in self.phases.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="a store, or 'ca1' for the mouse CA1 section")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0 = as PyTorch chooses")
    parser.add_argument("--checkpoint-dir", default=None)
    parser.add_argument("--resume", action="store_true")
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    meter = Meter()
    logging.getLogger("sjg").addHandler(meter)
    logging.getLogger("sjg").setLevel(logging.DEBUG)
    sdata = sjg.datasets.mouse_ca1() if a.path == "ca1" else spatialdata.read_zarr(a.path)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    meter.enter("reading")
    sjg.tl.segment(
        sdata,
        "dapi",
        nuclei_key="nuclei",
        reference="reference",
        preset=a.preset,
        device=a.device,
        checkpoint_dir=a.checkpoint_dir,
        resume=a.resume,
        overwrite=True,
        progress=False,
    )
    phases = meter.finish()
    table = sdata["sjg_table"]
    n_transcripts = int(table.uns["sjg"]["transcripts"]["n_kept"])
    wall = sum(at["wall_s"] for name, at in phases.items() if name != "import")
    result = {
        "path": Path(a.path).name,
        "preset": a.preset,
        "device": str(table.uns["sjg"]["device"]),
        "genes": table.n_vars,
        "cells": table.n_obs,
        "transcripts": n_transcripts,
        "wall_s": round(wall, 1),
        "cpu_s": round(sum(at["cpu_s"] for name, at in phases.items() if name != "import"), 1),
        "transcripts_per_s": round(n_transcripts / wall),
        "cells_per_s": round(table.n_obs / wall, 1),
        "peak_resident_mib": max(at["resident_mib"] for at in phases.values()),
        "peak_anonymous_mib": max(at["anonymous_mib"] for at in phases.values()),
        "peak_gpu_mib": round(torch.cuda.max_memory_allocated() / 2**20) if torch.cuda.is_available() else 0,
        "fraction_assigned": round(float(table.uns["sjg"]["quality"]["fraction_assigned"]), 4),
        "phases": phases,
    }
    if "cells" in sdata.labels:
        result["mean_iou"] = round(float(sjg.metrics.instance_iou(sdata["cells"].data.compute(), sdata["sjg_cells"].data.compute())), 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
