"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[Path, typer.Argument(metavar="IN.zarr", help="SpatialData store.", show_default=False)]
ImageKey = Annotated[str | None, typer.Option(help="Nuclear image. (default: the only image)", show_default=False)]
PointsKey = Annotated[str | None, typer.Option(help="Transcripts. (default: the only points)", show_default=False)]
TruthKey = Annotated[str | None, typer.Option(help="Labels of the true cells.", show_default=False)]
System = Annotated[str, typer.Option(help="Where image and transcripts are aligned.")]
Reference = Annotated[
    str | None,
    typer.Option(
        help="Cell types: a table of the store, an .h5ad file, or a .csv of genes x classes (means). (default: clusters)",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Seed = Annotated[int, typer.Option("--random-state", help="Seed: the same seed gives the same result.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
