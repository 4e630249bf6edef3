"""``sjg patches`` on small files, with real (short) training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import spatialdata
from typer.testing import CliRunner

import sjg
from sjg.cli import app

SHORT = (
    "--patch-size",
    32,
    "--epochs",
    3,
    "--attr-epoch",
    1,
    "--attr-grid",
    "2x2",
    "--cid-steps",
    2,
    "--cid-chunk-size",
    2,
    "--device",
    "cpu",
)


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "CA1"
    sdata = sjg.datasets.simulated_tissue(size_um=(32, 32), n_cell_types=2, n_genes=6, random_state=3)
    sjg.pp.annotate_nuclei(sdata, reference="reference")
    sjg.io.write_patches(sdata, folder, patch_size_px=32, ground_truth_key="cells")
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "CA1"))


def test_the_arguments_of_the_original_code_have_counterparts_that_act(folder: Path):
    result = run("patches", "segment", folder, *SHORT, "--patches-output", folder.parent / "new")
    assert result.exit_code == 0, result.output
    out = spatialdata.read_zarr(folder.parent / "CA1_sjg.zarr")
    parameters = out["sjg_table"].uns["sjg"]["parameters"]
    expected = {"patch_size_px": 32, "n_rounds": 3, "attribution_epoch": 1, "attribution_types": 2, "attribution_genes": 2}
    expected |= {"attribution_steps": 2, "attribution_chunk": 2, "attribution": "optimize"}
    assert {name: parameters[name] for name in expected} == expected
    assert {path.name for path in (folder.parent / "CA1_sjg_checkpoints").iterdir()} == {"checkpoint.pt", "labels.npz"}
    assert f"{out['sjg_table'].n_obs} cells" in result.stdout
    # the other commands take the run as any other
    store, page = folder.parent / "CA1_sjg.zarr", folder.parent / "report.html"
    assert run("evaluate", store, "sjg_cells", "--truth-key", "ground_truth").exit_code == 0
    assert run("report", store, "-o", page, "--truth-key", "ground_truth").exit_code == 0
    assert "Importance of the top genes" in page.read_text()
    # the new labels, in files that the original code reads
    back = sjg.io.read_patches(folder.parent / "new")
    np.testing.assert_array_equal(np.asarray(back["nuclei"].data), np.asarray(out["sjg_cells"].data))
    np.testing.assert_array_equal(np.asarray(back["genes"].data), np.asarray(out["genes"].data))
    with np.load(folder.parent / "new" / "p_0_0.npz") as patch:
        assert patch["instance"].min() == -1
        assert set(patch.files) == {"image", "label", "instance", "spots", "dapi", "ground_truth"}


def test_a_run_goes_on_from_its_checkpoint(folder: Path):
    words = ("patches", "segment", folder, *SHORT, "--checkpoint-every", 1)
    assert run(*words, "-o", folder.parent / "whole.zarr").exit_code == 0
    first = list(words)
    first[first.index("--epochs") + 1] = 2
    place = ("--checkpoint-dir", folder.parent / "check")
    assert run(*first, "-o", folder.parent / "part.zarr", *place).exit_code == 0
    result = run(*words, "-o", folder.parent / "resumed.zarr", *place, "--resume", "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    whole, resumed = (spatialdata.read_zarr(folder.parent / f"{name}.zarr") for name in ("whole", "resumed"))
    np.testing.assert_array_equal(np.asarray(whole["sjg_cells"].data), np.asarray(resumed["sjg_cells"].data))
    np.testing.assert_array_equal(whole["sjg_table"].varm["gene_importance"], resumed["sjg_table"].varm["gene_importance"])


def test_read_and_write_are_inverse(folder: Path):
    store, again = folder.parent / "read.zarr", folder.parent / "again"
    result = run("patches", "read", folder, "-o", store)
    assert result.exit_code == 0, result.output
    assert "64 x 64 pixels" in result.stdout
    assert run("patches", "write", store, "-o", again).exit_code == 0
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in folder.iterdir())
    for path in again.glob("p_*.npz"):
        with np.load(path) as new, np.load(folder / path.name) as old:
            for key in old.files:
                np.testing.assert_array_equal(new[key], old[key])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--attr-grid", "2by2"), "--attr-grid 2by2"),
        (("--background", "-2"), "--background -2"),
        (("--preset", "fast", "--attr-epoch", "3"), "belong to --preset published"),
        (("--attribution", "captum"), "closed_form"),
        (("--patch-size", "0"), "patch_size_px"),
        (("--resume",), "or leave out --resume"),
        (("-o", "/nowhere/out.zarr"), "does not exist"),
    ],
)
def test_wrong_arguments_say_so_in_one_line(folder: Path, words, message):
    result = run("patches", "segment", folder, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == ["CA1"]


def test_a_damaged_file_is_named(folder: Path):
    (folder / "p_0_1.npz").write_bytes(b"no archive")
    result = run("patches", "segment", folder)
    assert result.exit_code == 2
    assert "p_0_1.npz" in result.stderr
