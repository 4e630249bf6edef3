"""``sjg patches``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sjg import io, tl
from sjg._keys import DEFAULT_KEY, labels_key
from sjg.cli._segment import summary
from sjg.cli._store import check_new_path, read_store, write_store
from sjg.core import InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData


def run_segment_patches(
    directory: Path,
    output: Path | None,
    *,
    patches_output: Path | None,
    preset: str,
    epochs: int | None,
    attribution: str,
    attr_grid: str | None,
    knobs: Mapping[str, Any],
    checkpoint_dir: Path | None,
    resume: bool,
    background: str,
    instance_ids: str,
    device: str,
    random_state: int,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Read, segment, write the store and perhaps patch files."""
    output = directory.with_name(f"{directory.resolve().name}_sjg.zarr") if output is None else output
    check_new_path(output, overwrite=overwrite)
    parameters = _parameters(preset, attribution, attr_grid, knobs)
    sdata = _read(directory, background, instance_ids)
    tl.segment(
        sdata,
        image_key="genes",
        nuclei_key="nuclei",
        cell_type_key="cell_type",
        features="channels",
        preset=preset,
        parameters=parameters,
        max_epochs=epochs,
        checkpoint_dir=output.with_name(f"{output.stem}_checkpoints") if checkpoint_dir is None else checkpoint_dir,
        resume=resume,
        device=device,
        random_state=random_state,
        progress=not quiet,
    )
    write_store(sdata, output)
    if patches_output is not None:
        _write_labels(sdata, patches_output, overwrite=overwrite)
    if not quiet:
        typer.echo(summary(sdata, DEFAULT_KEY, output))


def run_read_patches(directory: Path, output: Path, *, background: str, instance_ids: str, overwrite: bool) -> None:
    """Read a folder and write the store."""
    check_new_path(output, overwrite=overwrite)
    sdata = _read(directory, background, instance_ids)
    write_store(sdata, output)
    height, width = sdata["nuclei"].shape
    typer.echo(f"{height} x {width} pixels, {sdata['nuclei_table'].n_obs:,} instances, {sdata['nuclei_table'].n_vars} genes -> {output}")


def run_write_patches(store: Path, output: Path, *, background: int, **options: Any) -> None:
    """Write a folder from a store."""
    io.write_patches(read_store(store), output, background=_background(str(background), {"-1": -1, "0": 0}), **options)
    typer.echo(f"{sum(1 for _ in output.rglob('p_*.npz')):,} patches -> {output}")


def _read(directory: Path, background: str, instance_ids: str) -> SpatialData:
    known: dict[str, Any] = {"auto": "auto", "-1": -1, "0": 0}
    which: Any = instance_ids
    return io.read_patches(directory, background=_background(background, known), instance_ids=which)


def _background(text: str, known: Mapping[str, Any]) -> Any:
    if text not in known:
        raise InputError(f"--background {text}: give one of {', '.join(known)}")
    return known[text]


def _parameters(preset: str, attribution: str, attr_grid: str | None, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the preset's."""
    chosen = {name: value for name, value in knobs.items() if value is not None}
    if attr_grid is not None:
        chosen |= _grid(attr_grid)
    if attribution != "auto":
        chosen["attribution"] = attribution
    elif "attribution_steps" in chosen:
        chosen["attribution"] = "optimize"
    if preset != "published" and chosen:
        raise InputError(f"--preset {preset} has no such settings ({', '.join(sorted(chosen))}); they belong to --preset published")
    return chosen


def _grid(text: str) -> dict[str, int]:
    """``2x3``: two types, three genes; ``all``."""
    if text == "all":
        return {"attribution_types": 0, "attribution_genes": 0}
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise InputError(f"--attr-grid {text}: give types x genes, e.g. 2x2, or all")
    return {"attribution_types": int(match[1]), "attribution_genes": int(match[2])}


def _write_labels(sdata: SpatialData, folder: Path, *, overwrite: bool) -> None:
    """Patch files with the cells and their types in place of the nuclei's."""
    record = sdata.attrs["sjg_patches"]
    height, width = record["patch_shape_px"]
    truth = "ground_truth" if "ground_truth" in sdata.labels else None
    io.write_patches(
        sdata,
        folder,
        nuclei_key=labels_key(DEFAULT_KEY),
        ground_truth_key=truth,
        patch_size_px=height if height == width else None,
        background=record["background"]["instance"],
        overwrite=overwrite,
    )
