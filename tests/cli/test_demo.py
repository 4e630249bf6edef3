from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import spatialdata
from matplotlib.image import imread
from typer.testing import CliRunner

import sjg
from sjg.cli import app
from sjg.cli._baselines import aligned_rows, beside_baselines, expansion_scores


def test_demo_prints_metrics_and_leaves_store_and_pictures(tmp_path: Path, tissue, quick_segment, monkeypatch):
    monkeypatch.setattr("sjg.cli._demo._SIMULATED_PX", (0, 4, 6, 12))
    monkeypatch.setattr(sjg.datasets, "simulated_tissue", lambda **_: spatialdata.deepcopy(tissue))
    # what an earlier run left is replaced
    (tmp_path / "out" / "sjg_demo.zarr" / "old").mkdir(parents=True)
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "out"), "--quiet"])
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out" / "sjg_demo.zarr" / "old").exists()
    lines = {line.split("  ")[0]: line.split() for line in result.stdout.splitlines() if "  " in line}
    # the stand-in is an expansion by 6 px, so it can not beat the best one
    sjg_iou, nuclei_iou, best_iou, best_px = (float(text) for text in lines["mean_iou"][1:])
    assert nuclei_iou < sjg_iou <= best_iou
    assert best_px in (4, 6, 12)
    written = spatialdata.read_zarr(tmp_path / "out" / "sjg_demo.zarr")
    assert {"sjg_cells", "nuclei", "cells"} <= set(written.labels)
    for name in ("segmentation.png", "gene_importance.png"):
        assert imread(tmp_path / "out" / name)[..., :3].std() > 0.05
    assert not list((tmp_path / "out").glob(".*"))


def test_demo_into_a_file_is_bad_usage(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "is a file" in result.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_expansion_scores_grow_towards_the_cells(tissue):
    scores = expansion_scores(tissue, "nuclei", (0, 6), truth_key="cells", reference="reference")
    assert scores.loc["mean_iou", 6] > scores.loc["mean_iou", 0]
    assert scores.loc["n_cells", 6] == scores.loc["n_cells", 0]
    assert "expanded" not in tissue.labels


def test_beside_baselines_takes_the_best_distance_of_each_metric():
    run = pd.DataFrame(
        {"metric": ["mean_iou", "coexpression_rate", "n_cells", "transcript_accuracy_posterior", "new"], "value": [0.7, 0.1, 9, 0.8, 1]}
    )
    index = ["mean_iou", "coexpression_rate", "n_cells", "transcript_accuracy"]
    expansions = pd.DataFrame({0: [0.3, 0.0, 9, 0.3], 4: [0.5, 0.2, 8, 0.6], 8: [0.6, 0.3, 7, 0.5]}, index=index)
    rows = beside_baselines(run, expansions, headline="mean_iou").set_index("metric")
    assert rows.loc["mean_iou", ["nuclei", "expansion", "expansion_px"]].tolist() == [0.3, 0.6, 8]
    assert rows.loc["coexpression_rate", ["expansion", "expansion_px"]].tolist() == [0.2, 4]  # less is better
    assert rows.loc["n_cells", ["expansion", "expansion_px"]].tolist() == [7, 8]  # at the headline's distance
    assert rows.loc["transcript_accuracy_posterior", ["sjg", "expansion", "expansion_px"]].tolist() == [0.8, 0.6, 4]
    assert rows.loc["new", ["nuclei", "expansion"]].isna().all()


@pytest.mark.parametrize("value", [0.25, float("nan")])
def test_aligned_rows_have_one_width(value):
    text = aligned_rows(pd.DataFrame({"metric": ["a", "long name"], "sjg": [value, 12.5]}), {"metric": "", "sjg": ".3f"})
    assert len({len(line) for line in text.splitlines()}) == 1
    assert ("-" in text.splitlines()[1]) == (value != value)
