"""Folders for the Xenium Explorer."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from sjg.core import DependencyError, InputError, MissingElementError

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


def write_explorer(
    sdata: SpatialData,
    path: str | os.PathLike[str],
    *,
    shapes_key: str = "sjg_boundaries",
    table_key: str = "sjg_table",
    image_key: str | None = None,
    points_key: str | None = None,
    pixel_size_um: float | None = None,
    overwrite: bool = False,
) -> None:
    """Write a folder that opens in the Xenium Explorer, through sopa :cite:p:`blampey2024sopa`.

    Parameters
    ----------
    sdata
        The object; it is not changed.
    path
        The folder to write; open its ``experiment.xenium`` in the Explorer. There, cells are numbered from 0 in the order of the table.
    shapes_key
        Shapes element with the cells.
    table_key
        Table with counts and cell types; its instance key names the index of the shapes.
    image_key
        The image; by default the only one.
    points_key
        The transcripts; by default the only points.
    pixel_size_um
        Side of a pixel of the image in micrometres; by default deduced from the transformations of image and transcripts.
    overwrite
        Replace an existing folder.

    Raises
    ------
    DependencyError
        sopa is not installed.
    MissingElementError
        There is no such element or table.
    InputError
        The folder exists, cells of the table are not in the shapes, or the pixel size is not known.

    Examples
    --------
    >>> import sjg
    >>> sjg.io.write_explorer(sdata, "sample.explorer")  # doctest: +SKIP
    """
    from spatialdata import SpatialData

    from sjg.access import choose_feature_key, choose_image, choose_points, image_pixel_size_um

    target = Path(path).expanduser()
    for kind, elements, key in (("shapes", sdata.shapes, shapes_key), ("table", sdata.tables, table_key)):
        if key not in elements:
            raise MissingElementError(f"{kind}_key={key!r} does not exist; there are: {', '.join(elements) or 'none'}.")
    image, points = choose_image(sdata, image_key), choose_points(sdata, points_key)
    size = pixel_size_um if pixel_size_um is not None else image_pixel_size_um(sdata, image, points)
    if size is None or not (np.isfinite(size) and size > 0):
        raise InputError(f"The pixel size of images[{image!r}] is not known (got {size!r}): give a positive pixel_size_um=.")
    if target.exists() and not overwrite:
        raise InputError(f"{str(target)!r} exists: pass overwrite=True, or name another folder.")
    if not target.parent.is_dir():
        raise InputError(f"{str(target.parent)!r} is no folder: create it first.")
    try:
        from sopa.io.explorer import write
    except ImportError as error:
        raise DependencyError("The Xenium Explorer's files are written by sopa: pip install 'sjg[explorer]'.") from error

    chosen = SpatialData(
        images={image: sdata.images[image]},
        points={points: sdata.points[points]},
        shapes={shapes_key: sdata.shapes[shapes_key]},
        tables={table_key: _annotating_shapes(sdata, table_key, shapes_key)},
    )
    partial = target.with_name(f".{uuid4().hex[:8]}.{target.name}")
    try:
        write(
            str(partial),
            chosen,
            table_key=table_key,
            image_key=image,
            shapes_key=shapes_key,
            points_key=points,
            gene_column=choose_feature_key(sdata, points),
            pixel_size=float(size),
        )
        _state_pixel_size(partial / "experiment.xenium", float(size))
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _state_pixel_size(file: Path, pixel_size_um: float) -> None:
    """Put the pixel size into the metadata: sopa (2.2.11) leaves 0.2125 there whatever it was given, and the scale bar is wrong."""
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps({**metadata, "pixel_size": pixel_size_um}, indent=4))


def _annotating_shapes(sdata: SpatialData, table_key: str, shapes_key: str) -> AnnData:
    """A copy of the table that annotates the polygons: sopa wants that, while sjg's own table annotates the labels."""
    import pandas as pd
    from spatialdata.models import TableModel

    table = sdata.tables[table_key].copy()
    attrs = table.uns.pop("spatialdata_attrs", None)
    if attrs is None:
        raise InputError(f"tables[{table_key!r}] annotates no element: parse it with TableModel.parse(...) first.")
    instance_key, region_key = attrs["instance_key"], attrs["region_key"]
    if not table.obs[instance_key].isin(sdata.shapes[shapes_key].index).all():
        raise InputError(
            f"tables[{table_key!r}] has cells in {instance_key!r} that are not in the index of shapes[{shapes_key!r}]: "
            "choose the table and the shapes of one run."
        )
    table.obs[region_key] = pd.Categorical([shapes_key] * table.n_obs)
    return TableModel.parse(table, region=shapes_key, region_key=region_key, instance_key=instance_key)
