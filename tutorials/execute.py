"""Execute tutorials in place: ``python tutorials/execute.py [NAME.ipynb ...]``; by default all that have the data they need.

What is kept is what a reader needs: standard output, tables and pictures. Pictures become JPEG of a width that a page can
show, and everything that differs from one machine to the next (times, versions, progress, warnings of other packages) is left out.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
WIDTH_PX = 800
#: a notebook names the folders below SJG_DATA_DIR that it reads in ``metadata.sjg.data``
DATA = os.environ.get("SJG_DATA_DIR", "")
#: a folder that `tempfile` made, up to what lies in it
FOLDER = re.compile(re.escape(tempfile.gettempdir()) + r"/tmp\w+/")


def execute(path: Path, *, write: bool, timeout_s: int) -> None:
    """Run every cell in a folder of its own; the first error ends it and leaves the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=timeout_s, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [
                without_folders(tidy(output)) for output in cell.outputs if output.get("name") != "stderr" and not is_progress(output)
            ]
    notebook.metadata.language_info = {"name": "python"}
    if write:
        nbformat.write(notebook, path)


def is_progress(output: nbformat.NotebookNode) -> bool:
    """Progress lines of sjg, and widgets."""
    data = output.get("data", {})
    return "application/vnd.jupyter.widget-view+json" in data or "".join(data.get("text/plain", "")).startswith("sjg done")


def tidy(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    data = output.get("data", {})
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGB")
        if picture.width > WIDTH_PX:
            picture = picture.resize((WIDTH_PX, round(picture.height * WIDTH_PX / picture.width)), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        # full chroma: outlines of a pixel keep their colour
        picture.save(buffer, "JPEG", quality=74, subsampling=0, optimize=True)
        data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode("ascii")
        output.metadata.pop("image/png", None)
    return output


def without_folders(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """What is printed of a working folder, which has another name on every machine, begins below it."""
    for holder, key in ((output, "text"), *((output.get("data", {}), kind) for kind in ("text/plain", "text/html"))):
        if key in holder:
            holder[key] = FOLDER.sub("", "".join(holder[key]))
    return output


def missing_data(path: Path) -> list[str]:
    wanted = nbformat.read(path, as_version=4).metadata.get("sjg", {}).get("data", [])
    return [name for name in wanted if not DATA or not (Path(DATA) / name).is_dir()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="leave the files as they are")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds for one cell")
    arguments = parser.parse_args()
    for path in arguments.names or sorted(HERE.glob("*.ipynb")):
        lacking = missing_data(path)
        if lacking:
            print(f"{path.name}: skipped, SJG_DATA_DIR has no {', '.join(lacking)}", flush=True)
            continue
        start = time.perf_counter()
        execute(path, write=not arguments.check, timeout_s=arguments.timeout)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s, {path.stat().st_size / 1e6:.2f} MB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
