"""The tutorials are complete as they are shown, and the first one runs; a weekly job runs all of them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import sjg

FOLDER = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: the same calls with a network that has hardly been trained
QUICK = """
import functools
import sjg

sjg.tl.segment = functools.partial(sjg.tl.segment, max_epochs=1, parameters={"steps_per_round": 3, "n_importance_patches": 1})
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_shown_as_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it: python tutorials/execute.py"
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert any(name.startswith("image/") for output in outputs for name in output.get("data", {}))
    assert path.stat().st_size < 3e6
    assert f"({path.name})" in (FOLDER / "index.md").read_text()


def test_quickstart_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / "quickstart.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(QUICK))
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "segmented.zarr").is_dir()


def test_first_block_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is copied, but for the length of the training."""
    (block,) = re.findall(r"## The first minute.*?```python\n(.*?)```", (FOLDER.parent / "README.md").read_text(), flags=re.DOTALL)
    quick = functools.partial(sjg.tl.segment, max_epochs=1, parameters={"steps_per_round": 3, "n_importance_patches": 1}, progress=False)
    monkeypatch.setattr(sjg.tl, "segment", quick)
    small = functools.partial(sjg.datasets.simulated_tissue, size_um=(96, 96))
    monkeypatch.setattr(sjg.datasets, "simulated_tissue", small)
    names: dict[str, Any] = {}
    exec(block, names)
    assert {"sjg_cells", "sjg_boundaries", "sjg_table"} <= {name for _, name, _ in names["sdata"].gen_elements()}
