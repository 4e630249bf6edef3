"""Runs that are killed, stopped and starved of disk, each compared with the run that was left alone; run by test_interruptions.py.

The children are forked from this process, so that what takes long (imports) happens once.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
import time
from pathlib import Path

import monai.networks.nets  # noqa: F401 - imported here, not in every child
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from conftest import plant

from sjg.core import CheckpointError
from sjg.training import Parameters, make_fabric, segment_tissue

PARAMETERS = Parameters(
    n_rounds=2,
    steps_per_round=20,
    patch_size_px=48,
    tile_size_px=24,
    channels=(4, 6),
    n_folds=2,
    n_importance_patches=1,
    n_probes=1,
    points_per_patch=500,
)
INTERVAL = 3
N_KILLS = 20


def run(folder: Path, *, resume: bool, on_progress=None, slow_s: float = 0.0):
    tissue = plant(side=64, per_cell=40)

    def report(record):
        (folder / "progress").write_text(f"{record['phase']} {record['done']}")
        time.sleep(slow_s)
        if on_progress is not None:
            on_progress(record)

    found = segment_tissue(
        tissue.molecules,
        tissue.nuclei,
        tissue.types,
        PARAMETERS,
        fabric=make_fabric("cpu"),
        checkpoint_dir=folder,
        checkpoint_interval=INTERVAL,
        resume=resume,
        on_progress=report,
    )
    arrays = (found.labels, found.molecule_cell, found.molecule_confidence, found.gene_importance, found.pixel_confidence)
    (folder / "result").write_bytes(pickle.dumps([a.tobytes() for a in arrays] + [json.dumps(found.history)]))


def child(folder: Path, **arguments) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run(folder, **arguments)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except CheckpointError as error:
            (folder / "error").write_text(str(error))
            code = 3
        finally:
            os._exit(code)
    return pid


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def progress(folder: Path) -> tuple[str, int]:
    try:
        phase, done = (folder / "progress").read_text().split()
    except (FileNotFoundError, ValueError):
        return "none", 0
    return phase, int(done)


def wait_for(folder: Path, step: int) -> None:
    give_up = time.monotonic() + 120
    while progress(folder)[1] < step and time.monotonic() < give_up:
        time.sleep(0.002)


def saved(folder: Path, phase: str) -> int:
    """Steps, or tiles, in the newest checkpoint of a phase."""
    path = folder / ("checkpoint.pt" if phase == "training" else f"tiles-{phase}-0.pt")
    if not path.exists():
        return 0
    payload = path.read_bytes().split(b"\n", 2)[2]
    (folder / "payload").write_bytes(payload)
    content = torch.load(folder / "payload", weights_only=True)
    return int(content["step" if phase == "training" else "n_done"])


def started(folder: Path) -> bool:
    return (folder / "checkpoint.pt").exists()


def main(root: Path) -> dict[str, object]:
    torch.set_num_threads(1)
    rng = np.random.default_rng(int(sys.argv[2]))
    folders = {name: root / name for name in ("alone", "killed", "stopped", "full")}
    for folder in folders.values():
        folder.mkdir()
    # a short pause after each step spreads the moments over all phases alike
    slow_s = 0.02
    pid = child(folders["alone"], resume=False, slow_s=slow_s)
    wait_for(folders["alone"], 1)
    begin = time.monotonic()
    if exit_code(pid) != 0:
        raise SystemExit("the run that was left alone failed")
    duration = time.monotonic() - begin
    expected = (folders["alone"] / "result").read_bytes()
    out: dict[str, object] = {}

    folder, kills, lost = folders["killed"], [], []
    while len(kills) < N_KILLS:
        (folder / "progress").unlink(missing_ok=True)
        pid = child(folder, resume=started(folder), slow_s=slow_s)
        wait_for(folder, 1)
        time.sleep(float(rng.exponential(duration / 12)))
        os.kill(pid, signal.SIGKILL)
        code = exit_code(pid)
        phase, done = progress(folder)
        if code == 0:
            # it was through before the signal came: once more from the start
            for file in folder.iterdir():
                file.unlink()
            continue
        kills.append(phase)
        if phase in ("training", "types", "cells"):
            # a report comes before the checkpoint of the same step
            lost.append(done - saved(folder, phase))
    code = exit_code(child(folder, resume=started(folder)))
    out["kills"], out["lost"], out["killed_code"] = kills, lost, code
    out["killed_equal"] = (folder / "result").read_bytes() == expected

    folder = folders["stopped"]
    pid = child(folder, resume=False, slow_s=slow_s)
    wait_for(folder, 10)
    os.kill(pid, signal.SIGTERM)
    out["stopped_code"] = exit_code(pid)
    out["stopped_lost"] = progress(folder)[1] - saved(folder, "training")
    out["stopped_resumed"] = exit_code(child(folder, resume=True))
    out["stopped_equal"] = (folder / "result").read_bytes() == expected

    def fill_disk(record):
        if record["done"] == 14:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    folder = folders["full"]
    out["full_code"] = exit_code(child(folder, resume=False, on_progress=fill_disk))
    out["full_error"] = (folder / "error").read_text()
    out["full_saved"] = saved(folder, "training")
    out["full_files"] = sorted(p.name for p in folder.iterdir() if "partial" in p.name)
    out["full_resumed"] = exit_code(child(folder, resume=True))
    out["full_equal"] = (folder / "result").read_bytes() == expected
    return out


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
