"""One run of `sjg.tl.segment` on a store: wall and CPU time and peak memory of every phase, as one line of JSON.

    python benchmarks/scale/measure.py slide.zarr --preset fast

Memory is that of this process, from /proc: "resident" counts pages of memory-mapped files that are in memory at the moment, "anonymous" does
not (the system can drop the former at any time).
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import resource
import threading
import time
from pathlib import Path

import spatialdata
import torch

import sjg


class Meter(logging.Handler):
    """Time and memory by phase; phases are taken from the log."""

    def __init__(self, client=None) -> None:
        super().__init__()
        self._client = client
        self.phases: dict[str, dict[str, float]] = {}
        self._phase, self._stop = "import", threading.Event()
        self._since = self._spent()
        threading.Thread(target=self._watch, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "phase %s":
            self.enter(str(record.args[0]))

    def enter(self, phase: str) -> None:
        now = self._spent()
        at = self.phases.setdefault(self._phase, dict.fromkeys(("wall_s", "cpu_s", "resident_mib", "anonymous_mib"), 0.0))
        at["wall_s"] += now[0] - self._since[0]
        at["cpu_s"] += now[1] - self._since[1]
        if self._client is not None:
            at["workers_cpu_s"] = at.get("workers_cpu_s", 0.0) + now[2] - self._since[2]
        self._phase, self._since = phase, now
        self.phases.setdefault(phase, dict.fromkeys(at, 0.0))

    def _spent(self) -> tuple[float, float, float]:
        """Wall time, CPU time of this process and of the workers."""
        workers = 0.0 if self._client is None else sum(cpu for cpu, _ in self._client.run(used).values())
        return time.perf_counter(), time.process_time(), workers

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


def make_client(n_workers: int):
    """The current client of worker processes on this machine, which have imported what they need."""
    from distributed import Client

    client = Client(n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=None)
    client.run(importlib.import_module, "sjg.training")
    return client


def used() -> tuple[float, float]:
    """CPU seconds and largest resident MiB of this process."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime, spent.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="a store, or 'ca1' for the mouse CA1 section")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0 = as PyTorch chooses")
    parser.add_argument("--cluster", type=int, default=0, help="workers of a distributed.Client, processes of one thread each")
    parser.add_argument("--checkpoint-dir", default=None)
    parser.add_argument("--resume", action="store_true")
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    client = make_client(a.cluster) if a.cluster else None
    meter = Meter(client)
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
    if client is not None:
        result["workers_peak_resident_mib"] = [round(peak) for _, peak in client.run(used).values()]
        client.shutdown()
    if "cells" in sdata.labels:
        result["mean_iou"] = round(float(sjg.metrics.instance_iou(sdata["cells"].data.compute(), sdata["sjg_cells"].data.compute())), 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
