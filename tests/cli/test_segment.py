from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import spatialdata
from typer.testing import CliRunner

from sjg.cli import app


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def digest(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def test_output_is_a_new_store_and_the_input_stays(store: Path, quick_segment):
    before = digest(store)
    result = run("segment", store, "-o", store.parent / "out.zarr", "--reference", "reference", "--max-epochs", 3, "--random-state", 7)
    assert result.exit_code == 0, result.output
    assert digest(store) == before
    assert sorted(path.name for path in store.parent.iterdir()) == ["out.zarr", "tissue.zarr"]
    out = spatialdata.read_zarr(store.parent / "out.zarr")
    assert {"sjg_cells"} <= set(out.labels)
    assert {"sjg_boundaries"} <= set(out.shapes)
    ids = out.points["transcripts"]["sjg_cell_id"].compute().to_numpy()
    table = out.tables["sjg_table"]
    assert np.array_equal(np.bincount(ids, minlength=table.n_obs + 1)[1:], table.obs["n_transcripts"])
    call = quick_segment[0]
    assert (call["reference"], call["max_epochs"], call["random_state"], call["progress"]) == ("reference", 3, 7, True)
    assert f"{table.n_obs:,} cells" in result.stdout
    assert f"{(ids > 0).mean():.1%}" in result.stdout


def test_without_output_the_input_gains_the_elements(store: Path, quick_segment):
    result = run("segment", store, "--quiet", "--key-added", "mine")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    again = spatialdata.read_zarr(store)
    assert "mine_cells" in again.labels
    assert "mine_table" in again.tables
    assert "mine_cell_id" in again.points["transcripts"].columns
    assert quick_segment[0]["progress"] is False
    # a second run needs permission
    assert run("segment", store, "--key-added", "mine").exit_code == 2
    assert run("segment", store, "--key-added", "mine", "--overwrite").exit_code == 0


def test_a_failed_run_leaves_nothing(store: Path, quick_segment):
    before = digest(store)
    result = run("segment", store, "-o", store.parent / "out.zarr", "--preset", "broken")
    assert result.exit_code == 1
    assert result.stderr == "sjg: the run failed: RuntimeError: out of luck (--debug shows where)\n"
    assert [path.name for path in store.parent.iterdir()] == ["tissue.zarr"]
    assert digest(store) == before


def test_a_failed_write_leaves_nothing_and_keeps_the_old_output(store: Path, quick_segment, monkeypatch):
    out = store.parent / "out.zarr"
    assert run("segment", store, "-o", out).exit_code == 0
    before = digest(out)
    write = spatialdata.SpatialData.write

    def half(self, path, *args, **kwargs):
        write(self, path, *args, **kwargs)
        raise OSError("No space left on device")

    monkeypatch.setattr(spatialdata.SpatialData, "write", half)
    result = run("segment", store, "-o", out, "--overwrite")
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert digest(out) == before
    assert sorted(path.name for path in store.parent.iterdir()) == ["out.zarr", "tissue.zarr"]


def test_debug_shows_the_traceback(store: Path, quick_segment):
    result = run("segment", store, "--preset", "broken", "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "the run failed" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{store}", "--image-key", "nope"], "--image-key 'nope' names no image"),
        (["{store}", "-o", "{store}"], "is the input"),
        (["{store}", "-o", "{store}/inside.zarr"], "inside the input"),
        (["{store}", "-o", "{folder}/no/where.zarr"], "does not exist"),
        (["{store}", "-o", "{folder}/taken.zarr"], "--overwrite"),
        (["{folder}/absent.zarr"], "no such file"),
        (["{folder}"], "no Zarr store"),
        (["{store}", "--reference", "absent"], "neither a table"),
        (["{store}", "--reference", "{folder}/notes.txt"], ".h5ad"),
        (["{store}", "--max-epochs", "0"], "max-epochs"),
        (["{store}", "--max-epochs", "many"], "max-epochs"),
        (["{store}", "--bogus"], "--bogus"),
        ([], "IN.zarr"),
    ],
)
def test_bad_usage_and_input_is_one_line_and_code_2(store: Path, quick_segment, words, message):
    folder = store.parent
    (folder / "taken.zarr").mkdir()
    (folder / "notes.txt").write_text("x")
    result = run("segment", *(word.format(store=store, folder=folder) for word in words))
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "taken.zarr", "tissue.zarr"]


def test_reference_from_files(store: Path, tissue, quick_segment):
    reference = tissue.tables["reference"]
    frame = reference.to_df().T
    frame.to_csv(store.parent / "means.csv")
    reference.write_h5ad(store.parent / "means.h5ad")
    for name in ("means.csv", "means.h5ad"):
        assert run("segment", store, "-o", store.parent / "out.zarr", "--overwrite", "--reference", store.parent / name).exit_code == 0
    by_csv, by_h5ad = (call["reference"] for call in quick_segment)
    assert np.allclose(by_csv.to_numpy(dtype=float), frame.to_numpy(dtype=float))
    assert by_h5ad.obs_names.tolist() == reference.obs_names.tolist()


def test_python_m_sjg_as_a_process(tmp_path: Path):
    done = subprocess.run([sys.executable, "-m", "sjg", "segment", str(tmp_path / "no.zarr")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("sjg: ")
    assert len(done.stderr.splitlines()) == 1


def test_help_does_not_load_the_stack():
    code = (
        "import sys\nfrom sjg.cli import app\n"
        "try:\n    app(['segment', '--help'], prog_name='sjg')\nexcept SystemExit as end:\n    code = end.code\n"
        "loaded = {'torch', 'spatialdata', 'anndata', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "sys.stderr.write(f'{code} {sorted(loaded)}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []"
    for option in ("--output", "--key-added", "--resume", "--checkpoint-dir", "--resolution-um", "--quiet"):
        assert option in done.stdout
