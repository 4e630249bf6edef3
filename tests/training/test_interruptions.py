"""kill -9, SIGTERM and a full disk: no run is lost, and none ends differently."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: as in interruptions.py
INTERVAL = 3


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    script = Path(__file__).with_name("interruptions.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path_factory.mktemp("runs")), "0"], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_killed_twenty_times_ends_as_if_left_alone(outcome):
    assert len(outcome["kills"]) >= 20
    # which of the passes over the tissue a kill meets depends on how fast they are
    assert "training" in outcome["kills"]
    assert set(outcome["kills"]) & {"types", "cells"}
    assert outcome["killed_code"] == 0
    assert outcome["killed_equal"]


def test_a_kill_costs_at_most_one_interval(outcome):
    assert outcome["lost"]
    assert max(outcome["lost"]) <= INTERVAL


def test_sigterm_leaves_a_checkpoint_of_the_step_it_came_in(outcome):
    assert outcome["stopped_code"] == 143
    assert outcome["stopped_lost"] <= 0
    assert outcome["stopped_resumed"] == 0
    assert outcome["stopped_equal"]


def test_a_full_disk_keeps_the_last_good_checkpoint(outcome):
    assert outcome["full_code"] == 3
    assert "could not be written" in outcome["full_error"]
    assert outcome["full_saved"] == 12
    assert outcome["full_files"] == []
    assert outcome["full_resumed"] == 0
    assert outcome["full_equal"]
