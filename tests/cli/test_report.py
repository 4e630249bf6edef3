from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel
from typer.testing import CliRunner

import sjg
from sjg.cli import app
from sjg.cli._report import _middle
from sjg.cli._report_facts import fact_groups, facts, type_rows, warnings_of
from sjg.cli._report_page import Page
from sjg.cli._report_quality import score_rows, seam_scores


class Checker(HTMLParser):
    """Collects what a page loads and checks that tags close in order."""

    void = ("meta", "link", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            self.alts.append(values["alt"])
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def page(store: Path, quick_segment) -> tuple[str, Checker]:
    assert CliRunner().invoke(app, ["segment", str(store), "--quiet"]).exit_code == 0
    out = store.parent / "report.html"
    result = CliRunner().invoke(app, ["report", str(store), "-o", str(out), "--truth-key", "cells", "--reference", "reference"])
    assert result.exit_code == 0, result.output
    html = out.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    # an existing report is not replaced unasked, and a bad call leaves it as it was
    assert CliRunner().invoke(app, ["report", str(store), "-o", str(out)]).exit_code == 2
    assert out.read_text(encoding="utf-8") == html
    return html, checker


def test_report_stands_alone_and_says_what_was_measured(page, store: Path):
    html, checker = page
    assert all(source.startswith(("data:", "#")) for source in checker.sources)
    assert "url(" not in html
    assert "<script" not in html
    assert 'name="viewport"' in html
    pictures = [base64.b64decode(source.split(",", 1)[1]) for source in checker.sources if source.startswith("data:image/webp")]
    assert len(pictures) == 6
    assert all(picture.startswith(b"RIFF") and len(picture) > 5000 for picture in pictures)
    assert all(checker.alts)
    # anchors lead somewhere
    assert {source[1:] for source in checker.sources if source.startswith("#")} == set(re.findall(r'<h2 id="(\w+)"', html))
    text = " ".join(checker.words)
    expected = sjg.tl.evaluate(__import__("spatialdata").read_zarr(store), "sjg_cells", truth_key="cells").set_index("metric")["value"]
    assert f"{expected['mean_iou']:.3f}" in text
    for word in (
        "type_0",
        "transcripts.n_kept",
        "fraction assigned",
        "cell type accuracy",
        "Quality against the truth",
        "Seams",
    ):
        assert word in text


def test_a_store_without_run_is_bad_input(store: Path):
    result = CliRunner().invoke(app, ["report", str(store), "-o", str(store.parent / "report.html")])
    assert result.exit_code == 2
    assert "sjg segment" in result.stderr
    assert not (store.parent / "report.html").exists()


def test_text_is_escaped():
    page = Page("<b>")
    page.section("<i>")
    page.table(["<u>"], [["<script>alert(1)</script>"]])
    html = page.html()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<title>&lt;b&gt;</title>" in html


def test_facts_flatten_and_leave_the_network_out():
    rows = facts(
        {"network": {"w": np.zeros(3)}, "history": {"loss": [1]}, "grid": {"shape": np.array([2, 3])}, "seed": 1, "lr": 0.0012345678}
    )
    assert rows == [["lr", "0.00123457"], ["seed", "1"], ["grid.shape", "2, 3"]]


def test_arguments_that_were_left_out_are_no_zeros():
    request = {
        "channel": "",
        "channels": np.empty(0),
        "min_qv": -np.inf,
        "pixel_size_um": 0.0,
        "resolution_um": 0.5,
        "features": "channels",
    }
    rows = dict(facts({"request": request, "n_unnamed": 0, "request_": ""}))
    assert {name.removeprefix("request.") for name, text in rows.items() if text == "not given"} == {
        "channel",
        "channels",
        "min_qv",
        "pixel_size_um",
    }
    assert rows["n_unnamed"] == "0"
    assert rows["request.resolution_um"] == "0.5"


def test_the_detail_stays_on_the_tissue():
    rng = np.random.default_rng(0)
    for shape in ((400, 300), (300, 20)):
        xy = np.vstack([rng.uniform(0, 1, (300, 2)) * shape, rng.uniform(0, 1, (400, 2)) * np.array(shape) * 0.1])
        table = AnnData(np.zeros((len(xy), 1)), obsm={"spatial": xy})
        x0, x1, y0, y1 = _middle(SpatialData(tables={"sjg_table": table}), "sjg_table")
        inside = ((xy >= [x0, y0]) & (xy <= [x1, y1])).all(axis=1).sum()
        assert 15 <= inside <= 150
        assert (x0, x1) == pytest.approx((max(x0, xy[:, 0].min()), min(x1, xy[:, 0].max())))
        if shape[1] > 100:
            assert (y0, y1) == pytest.approx((max(y0, xy[:, 1].min()), min(y1, xy[:, 1].max())))


def test_facts_by_section():
    groups = fact_groups({"image_key": "dapi", "versions": {"numpy": "2"}, "parameters": {"lr": 0.1}, "transcripts": {"n_kept": 3}})
    assert groups == {
        "Inputs and filters": [["image_key", "dapi"], ["transcripts.n_kept", "3"]],
        "Settings": [["lr", "0.1"]],
        "Versions": [["numpy", "2"]],
    }


def test_scores_with_and_without_truth():
    values = {"mean_iou": 0.5, "fraction_assigned": 0.75, "fraction_assigned_posterior": 0.875, "panoptic_quality": float("nan")}
    assert score_rows(values, truth=True)[0] == [["mean iou", "", "0.500"]]
    rows, meaning = score_rows(values, truth=False)
    assert rows == [["fraction assigned", "0.875", "0.750"]]
    assert "grows" in meaning["fraction assigned"]
    assert score_rows({"mean_confidence": 0.9}, truth=False)[0] == [["mean confidence", "0.900", ""]]


def test_every_score_says_what_it_means(tissue):
    metrics = sjg.tl.evaluate(tissue, "cells", truth_key="cells", reference="reference")
    values = dict(zip(metrics["metric"], metrics["value"], strict=True))
    meanings = score_rows(values, truth=True)[1] | score_rows(values, truth=False)[1]
    assert [name for name, text in meanings.items() if not text] == []
    truth_free = {name.replace("_", " ") for name in sjg.tl.evaluate(tissue, "cells", reference="reference")["metric"]}
    assert set(score_rows(values, truth=False)[1]) <= truth_free
    assert not set(score_rows(values, truth=True)[1]) & truth_free


def test_seams_where_a_run_had_tiles(tissue):
    assert seam_scores(tissue, "cells", {}) == {}
    assert seam_scores(tissue, "cells", {"parameters": {"tile_size_px": 256}}) == {}
    whole = seam_scores(tissue, "cells", {"parameters": {"tile_size_px": 60}})
    assert whole["fraction_cut_at_seams"] < 0.2
    cut = tissue.labels["cells"].to_numpy().copy()
    cut[60:] = np.where(cut[60:] > 0, cut[60:] + 1000, 0)
    cut[:, 60:] = np.where(cut[:, 60:] > 0, cut[:, 60:] + 5000, 0)
    broken = SpatialData(labels={"cells": Labels2DModel.parse(cut, dims=("y", "x"))})
    scores = seam_scores(broken, "cells", {"parameters": {"tile_size_px": 60}})
    assert scores["fraction_cut_at_seams"] > scores["fraction_cut_elsewhere"] + 0.3


def make_table(**columns) -> AnnData:
    obs = pd.DataFrame(columns)
    obs.index = obs.index.astype(str)
    return AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs)


def test_type_rows_are_ordered_by_size():
    table = make_table(cell_type=["a", "b", "b", "b"], n_transcripts=[5, 1, 2, 3], cell_type_confidence=[0.5, 0.9, 0.9, 0.9])
    assert type_rows(table) == [["b", "3", "75.0%", "2", "0.90"], ["a", "1", "25.0%", "5", "0.50"]]


@pytest.mark.parametrize(
    ("columns", "metrics", "word"),
    [
        ({}, {"fraction_assigned": 0.3}, "30%"),
        ({"n_transcripts": [1, 2, 3, 50]}, {}, "fewer than 5"),
        ({"cell_type_confidence": [0.1, 0.2, 0.3, 0.9]}, {}, "confidence"),
        ({"area_um2": [5000.0] * 4}, {}, "pixel size"),
        ({}, {"fraction_cut_at_seams": 0.1}, "seam"),
    ],
)
def test_warnings(columns, metrics, word):
    good = {"n_transcripts": [50] * 4, "cell_type_confidence": [0.9] * 4, "area_um2": [100.0] * 4, "cell_type": ["a", "b", "c", "d"]}
    assert warnings_of(make_table(**good), {"fraction_assigned": 0.9}) == []
    (found,) = warnings_of(make_table(**{**good, **columns}), {"fraction_assigned": 0.9, **metrics})
    assert word in found
