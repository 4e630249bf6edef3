"""``sjg segment``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sjg import tl
from sjg._keys import cell_id_column, table_key
from sjg.cli._store import check_new_path, read_reference, read_store, write_store

if TYPE_CHECKING:
    from spatialdata import SpatialData


def run_segment(
    store: Path, output: Path | None, *, overwrite: bool, quiet: bool, reference: str | None, settings: Mapping[str, Any]
) -> None:
    """Segment `store` into `output`, or in place where that is None."""
    if output is not None:
        check_new_path(output, source=store, overwrite=overwrite)
    sdata = read_store(store)
    if output is not None:
        # without a path nothing is written until the new store is
        sdata.path = None
    tl.segment(sdata, reference=read_reference(reference, sdata), overwrite=overwrite, progress=not quiet, **settings)
    if int(os.environ.get("RANK", "0")) > 0:
        return  # under torchrun the first process writes
    if output is not None:
        write_store(sdata, output)
    if not quiet:
        typer.echo(summary(sdata, settings["key_added"], output or store))


def summary(sdata: SpatialData, key_added: str, place: Path) -> str:
    """One line about a finished run."""
    table = sdata.tables[table_key(key_added)]
    text = f"{table.n_obs:,} cells of {table.obs['cell_type'].nunique()} types"
    column = cell_id_column(key_added)
    points = next((points for points in sdata.points.values() if column in points.columns), None)
    if points is not None:
        ids = points[column].compute()
        text += f", {(ids > 0).mean():.1%} of {len(ids):,} transcripts assigned"
    return f"{text} -> {place}"
