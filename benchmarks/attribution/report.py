"""Where the scripts of this folder leave numbers and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

HERE = Path(__file__).parent
FIGURES = HERE.parents[1] / "docs" / "_static" / "attribution"


def write(name: str, record: dict[str, Any], figure: Figure | None = None) -> None:
    """Print the record and keep it beside the script; the figure goes to the docs."""
    text = json.dumps(record, indent=1)
    print(text)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"{name}.json").write_text(text + "\n")
    if figure is not None:
        FIGURES.mkdir(parents=True, exist_ok=True)
        figure.savefig(FIGURES / f"{name}.png", dpi=90, bbox_inches="tight")
