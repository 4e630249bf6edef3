"""Two processes do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sjg.core import DeviceError
from sjg.metrics import instance_iou
from sjg.training import make_fabric

SCRIPT = Path(__file__).with_name("processes.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        "0",
        "--rdzv-backend",
        "c10d",
    ]
    for launcher in ([], [*torchrun, "--rdzv-endpoint", "127.0.0.1:0"]):
        done = subprocess.run(
            [sys.executable, *launcher, str(SCRIPT), str(folder)], capture_output=True, text=True, timeout=600, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return {name: np.load(folder / f"{name}.npz") for name in ("1-0", "2-0", "2-1")}


def test_two_processes_agree_with_one(results, planted):
    one, two = results["1-0"], results["2-0"]
    assert (one["labels"] == two["labels"]).mean() >= 0.995
    assert (one["cell"] == two["cell"]).mean() >= 0.99
    difference = instance_iou(planted.cells, one["labels"]) - instance_iou(planted.cells, two["labels"])
    assert abs(difference) < 0.005
    histories = [json.loads(str(r["history"])) for r in (one, two)]
    assert [[record["step"] for record in history] for history in histories] == [[10, 20, 30]] * 2
    for a, b in zip(*histories, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert a["known_pixels"] == pytest.approx(b["known_pixels"], abs=2e-3)


def test_all_processes_hold_the_same_result(results):
    for name in ("labels", "cell", "importance"):
        np.testing.assert_array_equal(results["2-0"][name], results["2-1"][name])


def test_one_gpu_cannot_be_named_for_two_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(DeviceError, match="names one GPU, but there are 2 processes"):
        make_fabric("cuda:1")
