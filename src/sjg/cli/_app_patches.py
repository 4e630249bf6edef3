"""``sjg patches ...``: the commands for patch files of the original research code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sjg.cli._options import Debug, Device, ImageKey, Overwrite, PointsKey, Quiet, Resume, Seed, Store

patches = typer.Typer(
    name="patches",
    help="Patch files p_<row>_<col>.npz of the original research code: segment, read, write.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of p_<row>_<col>.npz, flat or in train and test.", show_default=False)]
Background = Annotated[str, typer.Option(help="What marks background: auto, -1 or 0.")]
InstanceIds = Annotated[str, typer.Option(help="Ids count for the tissue, for each patch, or auto.")]


@patches.command()
def segment(
    directory: Folder,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.zarr", help="New store. (default: DIR_sjg.zarr)", show_default=False)
    ] = None,
    patches_output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write patch files with the new labels here.", show_default=False)
    ] = None,
    preset: Annotated[str, typer.Option(help="published (the paper's rule), default or fast.")] = "published",
    patch_size: Annotated[int | None, typer.Option(help="Side of a training patch in pixels. (default: 128)", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Patches per step. (default: 16)", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs. (default: 200)", min=1, show_default=False)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam. (default: 0.001)", show_default=False)] = None,
    attribution: Annotated[
        str,
        typer.Option(
            help="closed_form, optimize (descent on all genes), optimize_pairs (one gene at a time), gradient, none; auto: optimize where "
            "--cid-steps is given, else closed_form."
        ),
    ] = "auto",
    attr_epoch: Annotated[int | None, typer.Option(help="Epoch of the first attribution. (default: 20)", show_default=False)] = None,
    attr_every: Annotated[int | None, typer.Option(help="Epochs between attributions. (default: 20)", show_default=False)] = None,
    attr_grid: Annotated[
        str | None,
        typer.Option(metavar="TxG", help="Most abundant types x genes, or all. (default: all types, 100 genes)", show_default=False),
    ] = None,
    cid_steps: Annotated[int | None, typer.Option(help="Steps of the descent. (default: 20)", show_default=False)] = None,
    cid_chunk_size: Annotated[int | None, typer.Option(help="Types computed together. (default: 8)", show_default=False)] = None,
    cid_lr: Annotated[float | None, typer.Option(help="Step size of the descent. (default: 0.1)", show_default=False)] = None,
    cid_lambda: Annotated[float | None, typer.Option(help="Weight of information. (default: 0.01)", show_default=False)] = None,
    cid_grid_px: Annotated[int | None, typer.Option(help="Side of cells that share noise. (default: 1)", show_default=False)] = None,
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Checkpoints and label cache. (default: OUT_checkpoints)", show_default=False)
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Epochs between checkpoints. (default: 10)", show_default=False)] = None,
    resume: Resume = False,
    background: Background = "auto",
    instance_ids: InstanceIds = "auto",
    device: Device = "auto",
    random_state: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Segment the cells of patch files: what main.py of the original code does."""
    from sjg.cli._patches import run_segment_patches

    run_segment_patches(
        directory,
        output,
        patches_output=patches_output,
        preset=preset,
        epochs=epochs,
        attribution=attribution,
        attr_grid=attr_grid,
        knobs={
            "patch_size_px": patch_size,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "attribution_epoch": attr_epoch,
            "attribution_interval": attr_every,
            "attribution_steps": cid_steps,
            "attribution_chunk": cid_chunk_size,
            "attribution_lr": cid_lr,
            "information_weight": cid_lambda,
            "attribution_grid_px": cid_grid_px,
            "checkpoint_interval": checkpoint_every,
        },
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        background=background,
        instance_ids=instance_ids,
        device=device,
        random_state=random_state,
        overwrite=overwrite,
        quiet=quiet,
    )


@patches.command()
def read(
    directory: Folder,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.zarr", help="New store.", show_default=False)],
    background: Background = "auto",
    instance_ids: InstanceIds = "auto",
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Turn patch files into a SpatialData store."""
    from sjg.cli._patches import run_read_patches

    run_read_patches(directory, output, background=background, instance_ids=instance_ids, overwrite=overwrite)


@patches.command()
def write(
    store: Store,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="New folder.", show_default=False)],
    patch_size: Annotated[
        int | None, typer.Option(help="Side of a patch in pixels. (default: 128, or as read)", min=1, show_default=False)
    ] = None,
    nuclei_key: Annotated[str, typer.Option(help="Labels for instance: nuclei, or the cells of a run.")] = "nuclei",
    cell_type_key: Annotated[str, typer.Option(help="Column with their types; an empty text for none.")] = "cell_type",
    points_key: PointsKey = None,
    genes_key: Annotated[str | None, typer.Option(help="Image of densities, in place of transcripts.", show_default=False)] = None,
    image_key: ImageKey = None,
    ground_truth_key: Annotated[str | None, typer.Option(help="Labels for ground_truth.", show_default=False)] = None,
    sigma_px: Annotated[float, typer.Option(help="Blur of the densities of transcripts.")] = 2.0,
    background: Annotated[int, typer.Option(help="What marks background: -1 as the original code expects, or 0.")] = -1,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write patch files for the original code from a SpatialData store."""
    from sjg.cli._patches import run_write_patches

    run_write_patches(
        store,
        output,
        patch_size_px=patch_size,
        nuclei_key=nuclei_key,
        cell_type_key=cell_type_key or None,
        points_key=points_key,
        genes_key=genes_key,
        image_key=image_key,
        ground_truth_key=ground_truth_key,
        sigma_px=sigma_px,
        background=background,
        overwrite=overwrite,
    )
