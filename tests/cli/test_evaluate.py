from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import sjg
from sjg.cli import app
from sjg.cli._evaluate import number


def test_csv_equals_the_function(store: Path, tissue):
    result = CliRunner().invoke(app, ["evaluate", str(store), "nuclei", "--truth-key", "cells", "--reference", "reference", "--csv"])
    assert result.exit_code == 0, result.output
    printed = pd.read_csv(io.StringIO(result.stdout))
    expected = sjg.tl.evaluate(tissue, "nuclei", truth_key="cells", reference="reference")
    assert printed["metric"].tolist() == expected["metric"].tolist()
    assert np.allclose(printed["value"], expected["value"], equal_nan=True)


def test_text_has_a_line_for_each_metric(store: Path):
    result = CliRunner().invoke(app, ["evaluate", str(store), "cells", "--truth-key", "cells"])
    assert result.exit_code == 0, result.output
    lines = dict(line.split() for line in result.stdout.splitlines())
    assert float(lines["mean_iou"]) == 1.0


def test_unknown_labels_are_bad_input(store: Path):
    result = CliRunner().invoke(app, ["evaluate", str(store), "nope"])
    assert result.exit_code == 2
    assert "nuclei" in result.stderr  # the valid ones


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "-"), (0.12345, "0.123"), (1234.0, "1,234"), (1.0, "1.000"), (12.5, "12.5")])
def test_numbers(value, text):
    assert number(value) == text


def test_versions_lists_the_stack():
    result = CliRunner().invoke(app, ["versions"])
    assert result.exit_code == 0
    assert sjg.__version__ in result.stdout
    assert "spatialdata" in result.stdout
