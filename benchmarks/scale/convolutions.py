"""Where a training step and a tile of the prediction spend their time: the part of convolutions, and an estimate for a GPU.

    python benchmarks/scale/convolutions.py slide.zarr --preset fast

The estimate is arithmetic: floating point operations of the networks over a fraction of the card's peak, and bytes moved by everything else over its
bandwidth. It is no measurement.
"""

from __future__ import annotations

import argparse
import json
import time

import spatialdata
import torch
from torch.utils.flop_counter import FlopCounterMode

from sjg.tl._inputs import read_inputs
from sjg.training import PRESETS, Tissue, make_fabric
from sjg.training._judges import ClaimJudge
from sjg.training._predict import Prediction, _Pass
from sjg.training._run import make_trainer
from sjg.training._tiles import judge_tile
from sjg.training._windows import tiles

CONVOLUTIONS = ("aten::conv", "aten::_conv", "aten::mkldnn_conv", "aten::slow_conv", "aten::thnn_conv")
OUTSIDE = "(numpy, scipy, Python)"


def profiled(work, n: int) -> dict[str, object]:
    """CPU seconds of `n` calls, the part of convolutions and of the five largest other operations, and floating point operations."""
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(n):
            work()
        # the profiler counts wall time, so parts are parts of that
        total, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    by_name = {e.key: e.self_cpu_time_total / 1e6 for e in profile.key_averages()}
    convolutions = sum(t for name, t in by_name.items() if name.startswith(CONVOLUTIONS) or "convolution" in name)
    others = sorted(
        ((t, name) for name, t in by_name.items() if not name.startswith(CONVOLUTIONS) and "convolution" not in name), reverse=True
    )
    with FlopCounterMode(display=False) as counter:
        work()
    return {
        "cpu_s": round(cpu / n, 4),
        "convolutions": round(convolutions / total, 3),
        OUTSIDE: round(max(0.0, 1 - sum(by_name.values()) / total), 3),
        "largest_others": {name: round(t / total, 3) for t, name in others[:5]},
        "gflop": round(counter.get_total_flops() / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--calls", type=int, default=6)
    a = parser.parse_args()
    torch.set_num_threads(1)
    parameters = PRESETS[a.preset]
    inputs = read_inputs(spatialdata.read_zarr(a.path), request())
    tissue = Tissue(inputs.molecules, inputs.nuclei, parameters)
    trainer = make_trainer(tissue, inputs.types, parameters, make_fabric("cpu"), 0)
    windows = iter(list(tiles(tissue.shape, parameters.tile_size_px)) * 50)
    run = _Pass(
        ClaimJudge(tissue, trainer.state, parameters, own=trainer.own),
        tissue,
        parameters,
        prediction=Prediction.empty(tissue, trainer.state, pixels=True),
    )
    result = {
        "preset": a.preset,
        "types": len(inputs.types.names),
        "molecules_per_px": round(len(inputs.molecules) / tissue.labels.size, 4),
        "training step": profiled(trainer.train_step, a.calls),
        f"tile of {parameters.tile_size_px} px": profiled(lambda: one_tile(run, next(windows)), a.calls),
    }
    print(json.dumps(result))


def one_tile(run, window):
    """Cut a tile out, judge it and write what it says."""
    for part in judge_tile(run.job(0, window)):
        run.take_up(part)


def request():
    """What `sjg.tl.segment(sdata, "dapi", nuclei_key="nuclei", reference="reference")` asks for."""
    import dataclasses

    from sjg.tl._inputs import Request

    values = dict.fromkeys(f.name for f in dataclasses.fields(Request))
    values |= {
        "image_key": "dapi",
        "points_key": "transcripts",
        "nuclei_key": "nuclei",
        "reference": "reference",
        "coordinate_system": "global",
    }
    values |= {"min_qv": 20.0, "random_state": 0, "features": "transcripts", "channel_values": "auto"}
    return Request(**{name: values[name] for name in values if name in {f.name for f in dataclasses.fields(Request)}})


if __name__ == "__main__":
    main()
