"""What a training step and a tile of the prediction take in memory, beside what the planner thinks that they do.

    python benchmarks/scale/plan.py slide.zarr

On a CPU with Linux; memory is the anonymous memory of the process, watched while a step or a tile is computed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import threading
import time
from pathlib import Path

import spatialdata
import torch
from convolutions import one_tile, request

from sjg.tl._inputs import read_inputs
from sjg.training import PRESETS, Tissue, make_fabric
from sjg.training._judges import ClaimJudge, FoldJudge
from sjg.training._plan import window_bytes
from sjg.training._predict import Prediction, _Pass
from sjg.training._run import make_trainer
from sjg.training._windows import Window


class Watch:
    """Largest anonymous memory since `start`, in MiB above what there was then."""

    def __init__(self) -> None:
        self._peak = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._peak = max(self._peak, self._now())
            time.sleep(0.002)

    @staticmethod
    def _now() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1024

    def of(self, work) -> float:
        gc.collect()
        # what was freed before would be used again unseen
        ctypes.CDLL(None).malloc_trim(0)
        before = self._peak = self._now()
        work()
        return self._peak - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    a = parser.parse_args()
    torch.set_num_threads(1)
    watch, inputs = Watch(), read_inputs(spatialdata.read_zarr(a.path), request())
    settings = {"fast": PRESETS["fast"], "default": PRESETS["default"], "fast, without claims": PRESETS["fast"].replace(use_claims=False)}
    for name, parameters in settings.items():
        tissue = Tissue(inputs.molecules, inputs.nuclei, parameters)
        trainer = make_trainer(tissue, inputs.types, parameters, make_fabric("cpu"), 0)
        trainer.train_step()
        state = trainer.state
        judge = (
            ClaimJudge(tissue, state, parameters, own=trainer.own)
            if parameters.use_claims
            else FoldJudge(trainer.model.module, tissue, state, parameters)
        )
        run = _Pass(judge, tissue, parameters, prediction=Prediction.empty(tissue, state, pixels=True))
        known = {"n_types": len(inputs.types.names), "density": len(inputs.molecules) / tissue.labels.size}
        for side in (128, 256, 384, 768):
            work = lambda: one_tile(run, Window(0, 0, side, side))  # noqa: B023, E731
            line = {"measured_mib": round(watch.of(work)), "planned_mib": window_bytes(parameters, side, training=False, **known) >> 20}
            print(json.dumps({"settings": name, "tile_px": side, **line}))
        for side in (96, 192, 384):
            trainer.close()
            trainer.patch_px = side
            line = {
                "measured_mib": round(watch.of(trainer.train_step)),
                "planned_mib": window_bytes(parameters, side, training=True, **known) >> 20,
            }
            print(json.dumps({"settings": name, "patch_px": side, **line}))


if __name__ == "__main__":
    main()
