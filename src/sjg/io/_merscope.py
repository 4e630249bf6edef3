"""Folders of Vizgen MERSCOPE runs."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError

if TYPE_CHECKING:
    import dask.array as da
    from dask.dataframe import DataFrame
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData

_TRANSCRIPTS = ("detected_transcripts.parquet", "detected_transcripts.csv", "detected_transcripts.csv.gz")
_BOUNDARIES = "cell_boundaries.parquet"
_MATRIX = "micron_to_mosaic_pixel_transform.csv"
_MOSAIC = re.compile(r"mosaic_(?P<stain>.+)_z(?P<z>\d+)\.tiff?$")
#: columns that are kept besides the coordinates and the gene
_EXTRA_COLUMNS = ("cell_id", "transcript_id", "fov", "barcode_id", "transcript_score")


def merscope(path: str | PathLike[str], *, z_plane: int | Literal["max"] = 3) -> SpatialData:
    """Read a MERSCOPE folder, whole or cut out.

    Needs ``images/`` with ``mosaic_<stain>_z<z>.tif`` and either ``micron_to_mosaic_pixel_transform.csv`` or ``manifest.json``, and
    ``detected_transcripts`` as ``.csv``, ``.csv.gz`` or ``.parquet``; reads ``cell_boundaries.parquet`` where there is one. Unlike
    :func:`spatialdata_io.merscope` it needs no cell table, matrix file or boundaries. Objects read by that function work as well.

    Parameters
    ----------
    path
        The folder of the region.
    z_plane
        Plane of the images, or ``"max"`` for the maximum over all planes of each stain. Vizgen's own segmentation uses plane 3.
        Transcripts of all planes are kept.

    Returns
    -------
    SpatialData whose coordinate system ``global`` is the pixel grid of the mosaics

    - ``images["mosaic"]``: (c, y, x), a channel per stain, read lazily
    - ``points["transcripts"]``: ``x``, ``y``, ``z`` (x and y in micrometres with an affine to pixels), categorical ``gene``
      (the feature key), and ``cell_id``, ``transcript_id``, ``fov``, ``barcode_id``, ``transcript_score`` where the file has them
    - ``shapes["cell_boundaries"]``: Vizgen's cells in micrometres, one polygon each, of the plane nearest to `z_plane` (of the
      plane with the largest area for ``"max"``)

    Raises
    ------
    InputError
        A file is missing or not as described, or there is no image of that plane.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.io.merscope("202109_region_0")  # doctest: +SKIP
    """
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, PointsModel, ShapesModel
    from spatialdata.transformations import Identity

    from sjg.io._frame import to_pixels

    folder = Path(path).expanduser()
    if not (folder / "images").is_dir():
        raise InputError(f"{str(folder)!r} is no MERSCOPE region: it has no folder 'images'. Give the folder that holds it.")
    if z_plane != "max" and (isinstance(z_plane, bool) or not isinstance(z_plane, int)):
        raise InputError(f"z_plane must be a number or 'max', got {z_plane!r}.")
    manifest = _read_manifest(folder / "images")
    stains, image = _read_mosaics(folder / "images", manifest, z_plane)
    um_to_px = _um_to_px(folder / "images", manifest, image.shape[1:])
    found = [name for name in _TRANSCRIPTS if (folder / name).is_file()]
    if not found:
        raise InputError(f"{str(folder)!r} has no transcripts: expected one of {', '.join(_TRANSCRIPTS)}.")
    shapes = {}
    if (folder / _BOUNDARIES).is_file():
        shapes["cell_boundaries"] = ShapesModel.parse(_read_boundaries(folder / _BOUNDARIES, z_plane), transformations=to_pixels(um_to_px))
    molecules = _read_transcripts(folder / found[0])
    coordinates = {
        axis: column for axis, column in (("x", "global_x"), ("y", "global_y"), ("z", "global_z")) if column in molecules.columns
    }
    return SpatialData(
        images={"mosaic": Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=stains, transformations={"global": Identity()})},
        points={
            "transcripts": PointsModel.parse(
                molecules, coordinates=coordinates, feature_key="gene", transformations=to_pixels(um_to_px), sort=True
            )
        },
        shapes=shapes,
    )


def _read_manifest(images: Path) -> dict[str, Any]:
    if not (images / "manifest.json").is_file():
        return {}
    try:
        manifest = json.loads((images / "manifest.json").read_text())
    except ValueError as error:
        raise InputError(f"{str(images / 'manifest.json')!r} is no JSON ({error}): fetch it again, or remove it.") from error
    return manifest if isinstance(manifest, dict) else {}


def _um_to_px(images: Path, manifest: dict[str, Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(3, 3) matrix from micrometres to pixels of the mosaics, for homogeneous (x, y, 1)."""
    if (images / _MATRIX).is_file():
        matrix = np.genfromtxt(images / _MATRIX)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise InputError(f"{str(images / _MATRIX)!r} must hold a 3 x 3 matrix, got shape {matrix.shape}.")
        return matrix
    if "bbox_microns" not in manifest:
        raise InputError(f"{str(images)!r} has neither {_MATRIX} nor bbox_microns in manifest.json: the place of the image is not known.")
    # not microns_per_pixel: a mosaic that was scaled down keeps the number of the original
    x_min, y_min, x_max, y_max = (float(value) for value in manifest["bbox_microns"])
    scale_x, scale_y = shape[1] / (x_max - x_min), shape[0] / (y_max - y_min)
    return np.array([[scale_x, 0, -x_min * scale_x], [0, scale_y, -y_min * scale_y], [0, 0, 1]])


def _read_mosaics(images: Path, manifest: dict[str, Any], z_plane: int | Literal["max"]) -> tuple[list[str], da.Array]:
    """Names of the stains, DAPI first, and their planes as (c, y, x)."""
    import dask.array as da

    from sjg.access._tiff import lazy_tiff

    files: dict[str, dict[int, Path]] = {}
    for entry in manifest.get("mosaic_files", []):
        files.setdefault(str(entry["stain"]), {})[int(entry["z"])] = images / entry["file_name"]
    if not files:
        for file in sorted(images.iterdir()):
            match = _MOSAIC.match(file.name)
            if match:
                files.setdefault(match["stain"], {})[int(match["z"])] = file
    available = "; ".join(f"{stain}: z {', '.join(map(str, sorted(planes)))}" for stain, planes in sorted(files.items()))
    stains = sorted((stain for stain in files if z_plane == "max" or z_plane in files[stain]), key=lambda stain: (stain != "DAPI", stain))
    if not stains:
        raise InputError(f"{str(images)!r} has no mosaic at z_plane={z_plane!r}; there are: {available or 'none'}.")
    planes = []
    for stain in stains:
        paths = list(files[stain].values()) if z_plane == "max" else [files[stain][z_plane]]
        missing = [str(file) for file in paths if not file.is_file()]
        if missing:
            raise InputError(f"manifest.json lists files that are not there: {', '.join(missing)}.")
        planes.append(da.stack([lazy_tiff(file) for file in paths]).max(axis=0))
    if len({plane.shape for plane in planes}) > 1:
        raise InputError(f"The mosaics in {str(images)!r} differ in shape: {[plane.shape for plane in planes]}.")
    return stains, da.stack(planes)


def _read_transcripts(file: Path) -> DataFrame:
    """Molecules, a partition at a time; gzip cannot be split, so such a file is one partition."""
    import dask.dataframe as dd
    import pandas as pd

    from sjg.io._molecule_rows import numbered_rows

    if file.suffix == ".parquet":
        columns = list(dd.read_parquet(file).columns)
    else:
        columns = list(pd.read_csv(file, nrows=0).columns)
    needed = ("global_x", "global_y", "gene")
    lacking = [column for column in needed if column not in columns]
    if lacking:
        raise InputError(f"{str(file)!r} has no column {', '.join(lacking)}; it has {', '.join(map(str, columns))}.")
    chosen = [column for column in (*needed, "global_z", *_EXTRA_COLUMNS) if column in columns]
    if file.suffix == ".parquet":
        molecules = dd.read_parquet(file, columns=chosen)
    else:
        text, number = ("gene", "cell_id", "transcript_id"), ("global_x", "global_y", "global_z")
        types = {name: "str" if name in text else "float64" for name in (*text, *number) if name in chosen}
        split = {"blocksize": None} if file.suffix == ".gz" else {}
        molecules = dd.read_csv(file, usecols=chosen, dtype=types, **split)
    return numbered_rows(molecules.assign(gene=molecules["gene"].astype("category").cat.as_known()))


def _read_boundaries(file: Path, z_plane: int | Literal["max"]) -> GeoDataFrame:
    """One polygon per cell, index ``EntityID``."""
    import pandas as pd
    import shapely
    from geopandas import GeoDataFrame

    from sjg.io._polygons import valid_polygons

    table = pd.read_parquet(file)
    lacking = [column for column in ("EntityID", "ZIndex", "Geometry") if column not in table]
    if lacking:
        raise InputError(f"{str(file)!r} has no column {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}.")
    table = table[table["Geometry"].notna()]
    geometry = valid_polygons(shapely.from_wkb(table["Geometry"].to_numpy()))
    rank = -shapely.area(geometry) if z_plane == "max" else np.abs(table["ZIndex"].to_numpy() - z_plane)
    frame = GeoDataFrame({"ZIndex": table["ZIndex"].to_numpy()}, geometry=geometry, index=table["EntityID"].to_numpy())
    frame = frame[~frame.geometry.is_empty].assign(_rank=rank[~shapely.is_empty(geometry)]).sort_values("_rank", kind="stable")
    return frame[~frame.index.duplicated()].sort_index().drop(columns="_rank")
