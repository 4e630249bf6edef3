"""``sjg report``: what a run read, did and found, on one page."""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from sjg import get, pl, tl
from sjg._keys import labels_key, table_key
from sjg.cli._report_facts import fact_groups, type_rows, warnings_of
from sjg.cli._report_page import Page
from sjg.cli._report_quality import score_rows, seam_scores
from sjg.cli._store import check_new_path, complete_or_absent, read_reference, read_store
from sjg.core import InputError, MissingElementError

if TYPE_CHECKING:
    from spatialdata import SpatialData

_TOP_GENES = 8
_DETAIL_CELLS = 60


def run_report(store: Path, output: Path, *, key_added: str, truth_key: str | None, reference: str | None, overwrite: bool) -> None:
    """Write the report on the run `key_added` of `store` to `output`."""
    check_new_path(output, overwrite=overwrite)
    sdata = read_store(store)
    html = build_report(sdata, name=store.name, key_added=key_added, truth_key=truth_key, reference=reference)
    with complete_or_absent(output) as partial:
        partial.write_text(html, encoding="utf-8")
    typer.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def build_report(sdata: SpatialData, *, name: str, key_added: str, truth_key: str | None, reference: str | None) -> str:
    """The page as text."""
    cells, tables = labels_key(key_added), table_key(key_added)
    if cells not in sdata.labels or tables not in sdata.tables:
        runs = sorted(key.removesuffix(table_key("")) for key in sdata.tables if key.endswith(table_key("")))
        raise MissingElementError(f"{name} holds no run {key_added!r}; runs: {runs}. Run sjg segment first, or give --key-added")
    table = sdata.tables[tables]
    if table.n_obs == 0:
        raise InputError(f"tables[{tables!r}] has no cells to report on")
    record = table.uns.get("sjg", {})
    metrics = tl.evaluate(sdata, cells, truth_key=truth_key, reference=read_reference(reference, sdata))
    # the run's own record knows what labels alone do not tell, such as the confidence
    values = {**record.get("quality", {}), **dict(zip(metrics["metric"], metrics["value"], strict=True))}
    seams = seam_scores(sdata, cells, record)

    page = Page(f"Segmentation report: {name}")
    page.lead(f"{table.n_obs:,} cells of {table.obs['cell_type'].nunique()} types, run {key_added!r}.")
    page.section("Warnings")
    page.bullets(warnings_of(table, {**values, **seams}) or ["None."])
    _quality(page, values, truth_key)
    _cells(page, sdata, cells, tables, truth_key)
    _seams(page, seams)
    page.section("Cell types")
    page.text("Transcripts and confidence are medians over the cells of the type.")
    page.table(["cell type", "cells", "share", "transcripts", "confidence"], type_rows(table))
    page.section("Genes that drive the segmentation")
    page.picture(
        _picture(lambda file: pl.gene_importance(sdata, tables, save=file, show=False)),
        "Importance of the top genes of each type.",
        wide=True,
    )
    top = get.gene_importance(sdata, tables, n=_TOP_GENES).groupby("cell_type", sort=False)["gene"].agg(", ".join)
    page.table(["cell type", "most important genes"], [[str(key), genes] for key, genes in top.items()])
    if "history" in record:
        page.section("Training")
        page.picture(
            _picture(lambda file: pl.history(sdata, tables, save=file, show=False)), "Loss and transcripts assigned over the epochs."
        )
    for title, rows in fact_groups(record).items():
        page.section(title)
        page.facts(rows)
    return page.html()


def _quality(page: Page, values: Mapping[str, float], truth_key: str | None) -> None:
    head = ["metric", "by posterior", "by mask"]
    if truth_key is not None:
        page.section("Quality against the truth")
        page.text(
            f"The true cells are {truth_key!r}. By posterior: a transcript counts for its most probable cell; by mask: for the cell it lies in."
        )
        page.table(head, *score_rows(values, truth=True))
    page.section("Quality without truth")
    page.text("Read the scores together, none stands alone.")
    page.table(head, *score_rows(values, truth=False))


def _cells(page: Page, sdata: SpatialData, cells: str, tables: str, truth_key: str | None) -> None:
    page.section("Cells")
    page.picture(
        _picture(lambda file: pl.segmentation(sdata, cells, save=file, show=False)), "Map of all cells, coloured by type.", wide=True
    )
    window = _middle(sdata, tables)
    # a run on the channels of an image has none
    transcripts = len(sdata.points) > 0
    page.picture(
        _picture(
            lambda file: pl.segmentation(sdata, cells, truth_key=truth_key, crop=window, transcripts=transcripts, save=file, show=False)
        ),
        "Detail with transcripts." if transcripts else "Detail.",
        wide=True,
    )
    if "cell_type_confidence" in sdata.tables[tables].obs:
        page.picture(
            _picture(lambda file: pl.segmentation(sdata, cells, color="cell_type_confidence", nuclei_key="", save=file, show=False)),
            "Where the types are sure, and where not.",
            wide=True,
        )
    page.section("Sizes and counts")
    page.picture(
        _picture(lambda file: pl.quality(sdata, tables, save=file, show=False)), "Transcripts, area, confidence and types over the cells."
    )


def _seams(page: Page, seams: Mapping[str, float]) -> None:
    page.section("Seams")
    if not seams:
        page.text("The run saw the section in one tile, so there is no border at which a cell could be cut.")
        return
    page.text(
        "Share of the cells at the borders of tiles that end there in a straight edge of half a diameter or more, beside the same share at "
        "lines midway between. Without seams the two agree within chance."
    )
    page.table(
        ["lines", "cells cut"],
        [["borders of tiles", _percent(seams["fraction_cut_at_seams"])], ["midway", _percent(seams["fraction_cut_elsewhere"])]],
    )


def _percent(value: float) -> str:
    return "no cell there" if np.isnan(value) else f"{value:.1%}"


def _picture(draw: Callable[[Path], object]) -> str:
    """What `draw` saves to a file, as base64 WebP: a tenth of the size of a PNG, so that the page can be sent and read on a phone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.webp"
        draw(file)
        return b64encode(file.read_bytes()).decode("ascii")


def _middle(sdata: SpatialData, tables: str) -> tuple[float, float, float, float]:
    """A square with some sixty cells around the middle, no further than the cells reach."""
    xy = np.asarray(sdata.tables[tables].obsm["spatial"], dtype=float)
    distance = np.abs(xy - np.median(xy, axis=0)).max(axis=1)
    half = float(max(np.sort(distance)[min(len(distance), _DETAIL_CELLS) - 1], 1.0))
    low, high = xy.min(axis=0), xy.max(axis=0)
    # moved inwards where it would stick out; where the tissue is smaller than the window, centred on it
    centre = np.where(high - low > 2 * half, np.clip(np.median(xy, axis=0), low + half, high - half), (low + high) / 2)
    x, y = centre
    return float(x - half), float(x + half), float(y - half), float(y + half)
