"""The second simulator of the quality benchmark, on which nothing is trained."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "quality" / "other_tissue.py"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the benchmarks are not in the source distribution")


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("other_tissue", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["other_tissue"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["other_tissue"]


@pytest.fixture(scope="module")
def settings(module):
    return module.OtherTissue(shape=(160, 160), n_cells=49)


def test_truth_is_consistent(module, settings, monkeypatch):
    monkeypatch.delenv("SJG_DATA_DIR", raising=False)
    sdata = module.other_tissue(settings, seed=1)
    cells, nuclei = np.asarray(sdata["cells"]), np.asarray(sdata["nuclei"])
    n = int(cells.max())
    assert n >= 45
    np.testing.assert_array_equal(nuclei[nuclei > 0], cells[nuclei > 0])
    np.testing.assert_array_equal(np.unique(nuclei), np.arange(n + 1))
    assert (cells > 0).mean() == pytest.approx(settings.coverage, abs=0.03)
    assert (nuclei > 0).sum() / (cells > 0).sum() == pytest.approx(settings.nucleus_fraction, abs=0.04)
    points = sdata["transcripts"].compute()
    assert (points["true_cell"] == 0).mean() == pytest.approx(settings.noise_fraction, abs=0.02)
    assert (points["true_cell"] > 0).sum() / n == pytest.approx(settings.transcripts_per_cell, rel=0.25)
    row, column = (np.floor(points[axis].to_numpy() / settings.pixel_size_um).astype(int) for axis in ("y", "x"))
    own = points["true_cell"].to_numpy() > 0
    # half a micrometre of diffusion takes few transcripts out of their cell
    assert 0.8 < (cells[row, column] == points["true_cell"])[own].mean() < 0.97
    assert len(sdata["truth"]) == n


def test_a_seed_gives_one_tissue_and_a_setting_changes_its_own_step(module, settings):
    first, again = (module.other_tissue(settings, seed=2) for _ in range(2))
    fewer = module.other_tissue(replace(settings, transcripts_per_cell=20), seed=2)
    for key in ("cells", "nuclei"):
        np.testing.assert_array_equal(first[key], again[key])
        np.testing.assert_array_equal(first[key], fewer[key])
    assert first["transcripts"].compute().equals(again["transcripts"].compute())
    assert len(fewer["transcripts"]) < 0.3 * len(first["transcripts"])
