"""``sjg evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sjg import tl
from sjg.cli._store import read_reference, read_store

if TYPE_CHECKING:
    import pandas as pd


def run_evaluate(
    store: Path,
    labels_key: str,
    *,
    truth_key: str | None,
    points_key: str | None,
    reference: str | None,
    coordinate_system: str,
    csv: bool,
) -> None:
    """Print the metrics of labels."""
    sdata = read_store(store)
    metrics = tl.evaluate(
        sdata,
        labels_key,
        truth_key=truth_key,
        points_key=points_key,
        reference=read_reference(reference, sdata),
        coordinate_system=coordinate_system,
    )
    typer.echo(metrics.to_csv(index=False).rstrip("\n") if csv else aligned(metrics))


def aligned(metrics: pd.DataFrame) -> str:
    """Metrics as lines of name and value."""
    width = max(len(str(name)) for name in metrics["metric"])
    return "\n".join(f"{name:<{width}}  {number(value):>10}" for name, value in zip(metrics["metric"], metrics["value"], strict=True))


def number(value: float) -> str:
    """A number in few letters."""
    if value != value:
        return "-"
    if float(value).is_integer() and abs(value) >= 2:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
