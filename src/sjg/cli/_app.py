"""The commands and their options; what they do is imported when they run, so that help is quick."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sjg.cli._app_patches import patches
from sjg.cli._errors import OneLineErrors
from sjg.cli._options import Debug, Device, ImageKey, Overwrite, PointsKey, Quiet, Reference, Resume, Seed, Store, System, TruthKey

app = typer.Typer(
    cls=OneLineErrors,
    name="sjg",
    help="Cell segmentation of imaging spatial transcriptomics jointly with the genes that drive it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(patches)


class DemoData(StrEnum):
    """Data sets of ``sjg demo``."""

    simulated = "simulated"
    mouse_ca1 = "mouse-ca1"


Preset = Annotated[str, typer.Option(help="default, fast (2-core laptop) or published (the paper's rule).")]
Epochs = Annotated[int | None, typer.Option(help="At most this many epochs. (default: as the preset says)", min=1, show_default=False)]


@app.command()
def segment(
    store: Store,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT.zarr",
            help="New store; IN.zarr stays as it is. (default: write into IN.zarr)",
            show_default=False,
        ),
    ] = None,
    image_key: ImageKey = None,
    points_key: PointsKey = None,
    nuclei_key: Annotated[
        str | None, typer.Option(help="Labels or shapes of nuclei. (default: nuclei, else they are segmented)", show_default=False)
    ] = None,
    cell_type_key: Annotated[
        str | None, typer.Option(help="Column with the type of each nucleus, in the table that annotates the nuclei.", show_default=False)
    ] = None,
    reference: Reference = None,
    preset: Preset = "default",
    resolution_um: Annotated[
        float | None, typer.Option(help="Working resolution. (default: 0.5 where a pixel size is known)", show_default=False)
    ] = None,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Side of an image pixel, where the transformations do not tell.", show_default=False)
    ] = None,
    coordinate_system: System = "global",
    feature_key: Annotated[
        str | None, typer.Option(help="Column with the gene. (default: the one that the points declare)", show_default=False)
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Nuclear channel of the image, where it has several.", show_default=False)] = None,
    min_qv: Annotated[float, typer.Option(help="Leave out transcripts with a lower qv.")] = 20.0,
    assignment: Annotated[str, typer.Option(help="posterior, or mask: transcripts only to the cell whose mask holds them.")] = "posterior",
    key_added: Annotated[str, typer.Option(help="Prefix of the outputs.")] = "sjg",
    device: Device = "auto",
    random_state: Seed = 0,
    max_epochs: Epochs = None,
    checkpoint_dir: Annotated[Path | None, typer.Option(help="Folder for checkpoints.", show_default=False)] = None,
    checkpoint_interval: Annotated[
        int | None, typer.Option(help="Training steps, or tiles, between two checkpoints. (default: 50)", min=1, show_default=False)
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Segment the cells of IN.zarr: labels, boundaries, a table of counts and types, a cell for each transcript."""
    from sjg.cli._segment import run_segment

    run_segment(
        store,
        output,
        overwrite=overwrite,
        quiet=quiet,
        reference=reference,
        settings={
            "image_key": image_key,
            "points_key": points_key,
            "nuclei_key": nuclei_key,
            "cell_type_key": cell_type_key,
            "preset": preset,
            "resolution_um": resolution_um,
            "pixel_size_um": pixel_size_um,
            "feature_key": feature_key,
            # a name made of digits is still found by name
            "channel": int(channel) if channel is not None and channel.isdigit() else channel,
            "min_qv": min_qv,
            "assignment": assignment,
            "coordinate_system": coordinate_system,
            "key_added": key_added,
            "device": device,
            "random_state": random_state,
            "max_epochs": max_epochs,
            "checkpoint_dir": checkpoint_dir,
            "checkpoint_interval": checkpoint_interval,
            "resume": resume,
        },
    )


@app.command()
def demo(
    data: Annotated[
        DemoData, typer.Option(help="Tissue with known cells, or a real section (needs the data or a download).")
    ] = DemoData.simulated,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")] = Path("sjg_demo"),
    preset: Annotated[str | None, typer.Option(help="(default: default for simulated, fast for mouse-ca1)", show_default=False)] = None,
    device: Device = "auto",
    random_state: Seed = 0,
    max_epochs: Epochs = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    debug: Debug = False,
) -> None:
    """Run everything on example data: metrics, sjg_demo.zarr, segmentation.png, gene_importance.png."""
    from sjg.cli._demo import run_demo

    run_demo(data.value, output, preset=preset, device=device, random_state=random_state, max_epochs=max_epochs, quiet=quiet)


@app.command()
def evaluate(
    store: Store,
    labels_key: Annotated[str, typer.Argument(metavar="LABELS_KEY", help="Labels to measure.", show_default=False)],
    truth_key: TruthKey = None,
    points_key: PointsKey = None,
    reference: Reference = None,
    coordinate_system: System = "global",
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    debug: Debug = False,
) -> None:
    """Measure labels of IN.zarr, against the truth where there is one."""
    from sjg.cli._evaluate import run_evaluate

    run_evaluate(
        store,
        labels_key,
        truth_key=truth_key,
        points_key=points_key,
        reference=reference,
        coordinate_system=coordinate_system,
        csv=csv,
    )


@app.command()
def report(
    store: Store,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="report.html", help="File to write.")] = Path("report.html"),
    key_added: Annotated[str, typer.Option(help="Prefix of the run's outputs.")] = "sjg",
    truth_key: TruthKey = None,
    reference: Reference = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write one HTML file about a run: inputs, settings, quality, pictures, genes. It needs no network."""
    from sjg.cli._report import run_report

    run_report(store, output, key_added=key_added, truth_key=truth_key, reference=reference, overwrite=overwrite)


@app.command()
def versions(debug: Debug = False) -> None:
    """Print the versions that a bug report needs."""
    from sjg._versions import print_versions

    print_versions()


def main() -> None:
    """Entry point of the command ``sjg``."""
    app(prog_name="sjg")
