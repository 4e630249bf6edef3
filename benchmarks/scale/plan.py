"""What a training step and a tile of the prediction take in memory, beside what the planner thinks that they do.

    python benchmarks/scale/plan.py

On a CPU with Linux. Memory is what is resident at the worst moment, by the kernel's own mark (`VmHWM`, put back before each measurement), above what was
resident before; each setting is measured in a process of its own. The tissue is planted: round nuclei on a jittered grid and molecules anywhere, because
memory follows their numbers alone. Rows go to results/plan.json.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from convolutions import one_tile

from sjg.core import CellTypes, Molecules
from sjg.training import PRESETS, Parameters, Tissue, make_fabric
from sjg.training._judges import ClaimJudge, FoldJudge
from sjg.training._plan import window_bytes
from sjg.training._predict import Prediction, _Pass
from sjg.training._run import make_trainer
from sjg.training._windows import Window

RESULTS = Path(__file__).parent / "results" / "plan.json"
#: side of the tissue, which holds the largest window and its margin
SIDE_PX = 640
SIDES_PX = (96, 256, 512)
WIDE = (32, 64, 96, 128)


@dataclass(frozen=True)
class Setting:
    """One process: settings of a run and of its tissue."""

    parameters: Parameters
    n_types: int = 8
    n_genes: int = 200
    density: float = 0.4
    radius_px: float = 5.0
    pitch_px: float = 20.0


def settings() -> dict[str, Setting]:
    """Names of the settings that the formula was fitted on begin with "fitted"."""
    fast, default = PRESETS["fast"], PRESETS["default"]
    wide = default.replace(channels=WIDE, n_embedding=24)
    alone, wide_alone = fast.replace(use_claims=False), wide.replace(use_claims=False)
    return {
        "fitted: fast": Setting(fast),
        "fitted: default, sparse": Setting(default, density=0.05),
        "fitted: default, dense": Setting(default, density=3.0),
        "fitted: default, large nuclei": Setting(default, radius_px=12, pitch_px=48),
        "fitted: fast, without claims": Setting(alone),
        "fitted: wide, without claims, 60 types, dense": Setting(wide_alone, n_types=60, density=3.0),
        "fast, dense": Setting(fast, density=3.0),
        "default": Setting(default),
        "default, 60 types": Setting(default, n_types=60),
        "wide, 60 types, sparse": Setting(wide, n_types=60, density=0.05),
        "default, small nuclei": Setting(default, radius_px=3, pitch_px=10),
        "default, crowded large nuclei, dense": Setting(default, radius_px=10, pitch_px=24, density=2.0),
        "default, 5000 genes": Setting(default, n_genes=5000, n_types=20),
        "default, 12 candidates": Setting(default.replace(n_candidates=12)),
        "fast, without claims, 60 types": Setting(alone, n_types=60),
        "default, without claims, dense": Setting(default.replace(use_claims=False), density=3.0),
        "wide, without claims, 20000 points a patch": Setting(wide_alone.replace(points_per_patch=20000)),
    }


def planted(setting: Setting) -> tuple[Molecules, np.ndarray, CellTypes]:
    """Nuclei, molecules and types without any truth."""
    rng = np.random.default_rng(0)
    grid = np.arange(setting.pitch_px / 2, SIDE_PX - setting.pitch_px / 3, setting.pitch_px)
    centres = np.stack([v.ravel() for v in np.meshgrid(grid, grid, indexing="ij")], 1)
    centres = centres + rng.uniform(-0.1, 0.1, centres.shape) * setting.pitch_px
    nuclei = np.zeros((SIDE_PX, SIDE_PX), np.int32)
    reach = int(setting.radius_px) + 1
    offset = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    for i, centre in enumerate(centres, 1):
        place = np.floor(centre).astype(int) + offset
        place = place[(((place + 0.5 - centre) ** 2).sum(1) <= setting.radius_px**2) & ((place >= 0) & (place < SIDE_PX)).all(1)]
        nuclei[place[:, 0], place[:, 1]] = i
    n = int(setting.density * SIDE_PX**2)
    yx_px = (rng.random((n, 2)) * SIDE_PX).astype(np.float32)
    yx_px = np.minimum(yx_px, np.nextafter(np.float32(SIDE_PX), np.float32(0)))
    gene = rng.integers(0, setting.n_genes, n).astype(np.int32)
    types = CellTypes(
        tuple(f"t{k}" for k in range(setting.n_types)),
        rng.integers(0, setting.n_types, len(centres)).astype(np.int32),
        np.full(len(centres), 0.9, np.float32),
        rng.gamma(0.5, 1.0, (setting.n_types, setting.n_genes)) + 0.01,
    )
    return Molecules(yx_px, gene, tuple(f"g{i}" for i in range(setting.n_genes))), nuclei, types


def peak_bytes(work: Callable[[], object]) -> int:
    """Largest resident memory during `work`, above what was resident before."""

    def resident(field: str) -> int:
        return int(Path("/proc/self/status").read_text().split(field)[1].split()[0]) * 1024

    gc.collect()
    # what was freed before would be used again unseen
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS:")
    work()
    return resident("VmHWM:") - before


def measured(setting: Setting) -> list[dict[str, object]]:
    """Rows of one setting."""
    torch.set_num_threads(1)
    molecules, nuclei, types = planted(setting)
    tissue = Tissue(molecules, nuclei, setting.parameters)
    rows = []
    for side in SIDES_PX:
        parameters = setting.parameters.replace(patch_size_px=side)
        trainer = make_trainer(tissue, types, parameters, make_fabric("cpu"), 0)
        trainer.train_step()
        # patches made ahead belong to the next step
        trainer.close()
        rows.append(("patch", side, parameters, peak_bytes(trainer.train_step)))
        trainer.close()
    state = trainer.state
    judge = (
        ClaimJudge(tissue, state, parameters, own=trainer.own)
        if parameters.use_claims
        else FoldJudge(trainer.model.module, tissue, state, parameters)
    )
    run = _Pass(judge, tissue, parameters, prediction=Prediction.empty(tissue, state, pixels=True))

    def tile(side: int) -> None:
        corner = (SIDE_PX - side) // 2
        one_tile(run, Window(corner, corner, side, side))

    tile(SIDES_PX[0])
    rows += [("tile", side, setting.parameters, peak_bytes(partial(tile, side))) for side in SIDES_PX]
    found = []
    for what, side, parameters, taken in rows:
        planned = window_bytes(parameters, side, n_types=setting.n_types, crowd=tissue.crowd(), training=what == "patch")
        row = {"what": what, "side_px": side, "measured_mib": round(taken / 2**20), "planned_mib": round(planned / 2**20)}
        found.append({**row, "planned_to_measured": round(planned / taken, 2)})
    return found


def in_child(setting: Setting) -> list[dict[str, object]]:
    """`measured`, in a process that starts with the memory of this one and nothing else."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with os.fdopen(writer, "w") as stream:
            json.dump(measured(setting), stream)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        found = stream.read()
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("a setting failed, see above")
    return json.loads(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="settings whose name holds this; nothing is written then")
    a = parser.parse_args()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    record = {}
    for name, setting in settings().items():
        if a.only in name:
            record[name] = in_child(setting)
            cells = (
                f"{r['what']} {r['side_px']}: {r['measured_mib']} / {r['planned_mib']} ({r['planned_to_measured']})" for r in record[name]
            )
            print(name, *cells, sep="\n  ", flush=True)
    for fitted in (True, False):
        ratios = [r["planned_to_measured"] for name, rows in record.items() for r in rows if name.startswith("fitted") == fitted]
        if ratios:
            print(f"{'fitted' if fitted else 'others'}: planned to measured {min(ratios)} to {max(ratios)}, median {np.median(ratios):.2f}")
    if not a.only:
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
