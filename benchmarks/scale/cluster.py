"""What a tile costs that is judged by the worker of a cluster: time to cut it out, bytes there and back, time to judge and to take it up.

python benchmarks/scale/cluster.py slide.zarr
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import spatialdata
import torch
from convolutions import request
from distributed.protocol import serialize_bytes

from sjg.core import generator
from sjg.tl._inputs import read_inputs
from sjg.training import PRESETS, Tissue, make_fabric
from sjg.training._judges import ClaimJudge
from sjg.training._own_profiles import fit_own_profiles
from sjg.training._predict import Prediction, _Pass
from sjg.training._run import make_trainer
from sjg.training._tiles import judge_tile
from sjg.training._windows import tiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--preset", default="fast")
    a = parser.parse_args()
    torch.set_num_threads(1)
    parameters, inputs = PRESETS[a.preset], read_inputs(spatialdata.read_zarr(a.path), request())
    tissue = Tissue(inputs.molecules, inputs.nuclei, parameters)
    state = make_trainer(tissue, inputs.types, parameters, make_fabric("cpu"), 0).state
    own, windows = None, list(tiles(tissue.shape, parameters.tile_size_px))
    for name, pixels in (("types", False), ("cells", True)):
        prediction = Prediction.empty(tissue, state, pixels=pixels)
        run = _Pass(ClaimJudge(tissue, state, parameters, own=own), tissue, parameters, prediction=prediction)
        spent = []
        for number, window in enumerate(windows):
            times = [time.process_time()]
            job = run.job(number, window)
            times.append(time.process_time())
            there = len(serialize_bytes(job))
            times.append(time.process_time())
            parts = judge_tile(job)
            times.append(time.process_time())
            back = len(serialize_bytes(parts))
            times.append(time.process_time())
            for part in parts:
                run.take_up(part)
            times.append(time.process_time())
            spent.append([*np.diff(times), there / 2**20, back / 2**20, len(job.nucleus)])
        names = ("cut_s", "pack_s", "judge_s", "pack_back_s", "take_up_s", "mib_there", "mib_back", "nuclei_in_job")
        mean = {key: round(float(value), 4) for key, value in zip(names, np.mean(spent, 0), strict=True)}
        print(json.dumps({"pass": name, "cells": len(tissue.nuclei), "tiles": len(windows), **mean}))
        own = fit_own_profiles(state, prediction.cell, tissue.molecules.gene, rng=generator(0, 5))


if __name__ == "__main__":
    main()
