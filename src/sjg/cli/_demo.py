"""``sjg demo``: the main job from data to pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import typer

from sjg import datasets, pl, tl
from sjg._keys import DEFAULT_KEY, labels_key
from sjg.cli._baselines import aligned_rows, beside_baselines, expansion_scores
from sjg.cli._segment import summary
from sjg.cli._store import write_store
from sjg.core import InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData

_CELLS = labels_key(DEFAULT_KEY)
_SIMULATED_PX = (0, *range(4, 31, 2))
#: a whole section takes seconds for each
_SECTION_PX = (0, 5, 10, 20, 30)
_TABLE = {"metric": "", "sjg": ".3f", "nuclei": ".3f", "expansion": ".3f", "expansion_px": ".0f"}
#: what the run is judged by leads the table
_FIRST = ("transcript_accuracy", "transcript_accuracy_posterior", "mean_iou", "f1_at_iou_0.75", "cell_type_accuracy")
_IN_PICTURE = ("mean_iou", "f1_at_iou_0.75", "transcript_accuracy_posterior")


def run_demo(data: str, output: Path, *, preset: str | None, device: str, random_state: int, max_epochs: int | None, quiet: bool) -> None:
    """Segment example data, print its metrics and leave the store and the pictures in `output`."""
    if output.exists() and not output.is_dir():
        raise InputError(f"-o {output} is a file; give a folder")
    output.mkdir(parents=True, exist_ok=True)
    simulated = data == "simulated"
    if simulated:
        sdata = datasets.simulated_tissue(random_state=random_state)
        truth_key, distances_px = "cells", _SIMULATED_PX
    else:
        sdata = datasets.mouse_ca1()
        truth_key, distances_px = None, _SECTION_PX
    start = time.perf_counter()
    tl.segment(
        sdata,
        reference="reference",
        preset=preset or ("default" if simulated else "fast"),
        device=device,
        random_state=random_state,
        max_epochs=max_epochs,
        progress=not quiet,
    )
    seconds = time.perf_counter() - start
    store = output / "sjg_demo.zarr"
    write_store(sdata, store)
    typer.echo(f"{summary(sdata, DEFAULT_KEY, store)} ({seconds:.0f} s)")

    run = tl.evaluate(sdata, _CELLS, truth_key=truth_key, reference="reference")
    expansions = expansion_scores(sdata, "nuclei", distances_px, truth_key=truth_key, reference="reference")
    headline = "transcript_accuracy" if simulated else "negative_marker_purity"
    scores = beside_baselines(run, expansions, headline=headline)
    first = scores["metric"].isin(_FIRST)
    scores = pd.concat([scores[first], scores[~first]])
    typer.echo(f"\n{aligned_rows(scores, _TABLE)}\n")
    typer.echo("expansion: nuclei grown by the distance (expansion px) that is best in this metric")
    for picture in _pictures(sdata, scores, truth_key, output):
        typer.echo(f"wrote {picture}")


def _pictures(sdata: SpatialData, scores: pd.DataFrame, truth_key: str | None, output: Path) -> list[Path]:
    """Draw the results; returns the files."""
    cells, genes, detail = output / "segmentation.png", output / "gene_importance.png", output / "segmentation_detail.png"
    pl.gene_importance(sdata, save=genes, show=False)
    if truth_key is None:
        pl.segmentation(sdata, save=cells, show=False)
        pl.comparison(sdata, {"nuclei": "nuclei", "sjg": _CELLS}, crop=_busy_window(sdata), save=detail, show=False)
        return [cells, detail, genes]
    shown = scores[scores["metric"].isin(_IN_PICTURE)].set_index("metric")[["nuclei", "sjg"]]
    panels = {"nuclei": "nuclei", "sjg": _CELLS, "truth": truth_key}
    pl.comparison(sdata, panels, metrics=shown, nuclei_key="nuclei", save=cells, show=False)
    return [cells, genes]


def _busy_window(sdata: SpatialData) -> tuple[float, float, float, float]:
    """A window of a sixth of the section's width around the densest part of the cells."""
    import numpy as np

    xy = np.asarray(sdata.tables[f"{DEFAULT_KEY}_table"].obsm["spatial"], dtype=float)
    width = float(np.ptp(xy[:, 0])) / 6 or 1.0
    counts, x_edges, y_edges = np.histogram2d(xy[:, 0], xy[:, 1], bins=(12, max(1, round(12 * float(np.ptp(xy[:, 1])) / (6 * width)))))
    i, j = np.unravel_index(int(counts.argmax()), counts.shape)
    x, y = x_edges[i : i + 2].mean(), y_edges[j : j + 2].mean()
    return float(x - width / 2), float(x + width / 2), float(y - width / 3), float(y + width / 3)
