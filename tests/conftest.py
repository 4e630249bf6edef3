"""Fixtures and profiles that every test package shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# before anything imports matplotlib: the tests draw without a screen
os.environ.setdefault("MPLBACKEND", "Agg")

# an example may import torch or compile a kernel: its time says nothing about the code
settings.register_profile("local", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets; the test is skipped where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SJG_DATA_DIR") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder; set SJG_DATA_DIR")
    return folder
