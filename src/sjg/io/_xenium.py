"""Folders of 10x Xenium runs."""

from __future__ import annotations

import re
import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sjg.core import DependencyError, InputError

if TYPE_CHECKING:
    import dask.array as da
    from anndata import AnnData
    from dask.dataframe import DataFrame
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData

#: side of a full-resolution pixel of every Xenium instrument
_NATIVE_UM = 0.2125
#: how far the extents of a cut-out image and of its molecules may differ
_TOLERANCE = 0.05
_SPECIFICATION = "experiment.xenium"
_TRANSCRIPTS = "transcripts.parquet"
_IMAGES = ("morphology_focus.ome.tif", "morphology_mip.ome.tif")


def xenium(path: str | PathLike[str], *, pixel_size_um: float | None = None, origin_um: tuple[float, float] | None = None) -> SpatialData:
    """Read a Xenium folder, whole or cut out.

    A whole run (one with ``experiment.xenium``) is read by :func:`spatialdata_io.xenium`. Of a cut-out, the files that are present:
    ``transcripts.parquet`` and ``morphology_focus.ome.tif`` (or ``morphology_mip.ome.tif``), which it needs, ``nucleus_boundaries.parquet``,
    ``cell_boundaries.parquet``, and ``cells.parquet`` with ``cell_feature_matrix.h5``.

    Parameters
    ----------
    path
        The folder.
    pixel_size_um
        Side of a pixel of a cut-out's image in micrometres. By default the physical size in its OME metadata, else the level of the
        Xenium pyramid (0.2125 um times a power of 2) at which the image is as large as the extent of the transcripts.
    origin_um
        (x, y) of the image's upper left corner in micrometres. By default 0 where the image so placed covers the transcripts, else
        the whole pixel at which it is centred on them.

    Returns
    -------
    SpatialData whose coordinate system ``global`` is the pixel grid of the image

    - ``images["morphology_focus"]``: (c, y, x), read lazily
    - ``points["transcripts"]``: ``x``, ``y``, ``z`` in micrometres with the transformation to pixels, categorical ``feature_name`` (the
      feature key), ``qv`` and the other columns of the file
    - ``shapes["nucleus_boundaries"]``, ``shapes["cell_boundaries"]``: polygons in micrometres, the index is the cell id
    - ``tables["table"]``: the platform's own counts, annotating ``cell_boundaries``

    Raises
    ------
    InputError
        A file is missing or not as described, or the place of the image can be neither read nor deduced.
    DependencyError
        A whole run, and spatialdata-io is not installed.

    Warns
    -----
    UserWarning
        The pixel size or the place of a cut-out image was deduced from the extent of the transcripts.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.io.xenium("cut_out", pixel_size_um=0.2125, origin_um=(1000, 1000))  # doctest: +SKIP
    """
    folder = Path(path).expanduser()
    if (folder / _SPECIFICATION).is_file():
        if pixel_size_um is not None or origin_um is not None:
            raise InputError(f"{_SPECIFICATION} in {str(folder)!r} states pixel size and origin: leave pixel_size_um and origin_um out.")
        return _whole_run(folder)
    image_files = [name for name in _IMAGES if (folder / name).is_file()]
    if not (folder / _TRANSCRIPTS).is_file() or not image_files:
        raise InputError(
            f"{str(folder)!r} is no Xenium folder: a whole run has {_SPECIFICATION}, a cut-out {_TRANSCRIPTS} and {' or '.join(_IMAGES)}."
        )
    return _cut_out(folder, folder / image_files[0], pixel_size_um, origin_um)


def _whole_run(folder: Path) -> SpatialData:
    try:
        from spatialdata_io import xenium as read
    except ImportError as error:
        raise DependencyError("Whole Xenium runs are read by spatialdata-io: pip install 'sjg[io]'.") from error
    return read(folder)


def _cut_out(folder: Path, image_file: Path, pixel_size_um: float | None, origin_um: tuple[float, float] | None) -> SpatialData:
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, PointsModel, ShapesModel
    from spatialdata.transformations import Identity

    from sjg.io._frame import to_pixels

    image, channels = _read_image(image_file)
    molecules = _read_transcripts(folder / _TRANSCRIPTS)
    low, high = _extent(molecules)
    size = pixel_size_um if pixel_size_um is not None else _ome_pixel_size(image_file)
    shape = np.array(image.shape[:0:-1])
    size = size if size is not None else deduce_pixel_size(shape, high - low)
    if not (np.isfinite(size) and size > 0):
        raise InputError(f"pixel_size_um must be positive, got {size!r}.")
    origin = np.asarray(origin_um, dtype=np.float64) if origin_um is not None else deduce_origin(shape * size, low, high, size)
    um_to_px = np.array([[1 / size, 0, -origin[0] / size], [0, 1 / size, -origin[1] / size], [0, 0, 1]])

    shapes = {}
    for name in ("nucleus_boundaries", "cell_boundaries"):
        if (folder / f"{name}.parquet").is_file():
            shapes[name] = ShapesModel.parse(_read_boundaries(folder / f"{name}.parquet"), transformations=to_pixels(um_to_px))
    tables = {}
    if "cell_boundaries" in shapes and (folder / "cells.parquet").is_file() and (folder / "cell_feature_matrix.h5").is_file():
        tables["table"] = _read_table(folder)
    coordinates = {axis: f"{axis}_location" for axis in "xyz" if f"{axis}_location" in molecules.columns}
    return SpatialData(
        images={
            "morphology_focus": Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=channels, transformations={"global": Identity()})
        },
        points={
            "transcripts": PointsModel.parse(
                molecules, coordinates=coordinates, feature_key="feature_name", transformations=to_pixels(um_to_px), sort=True
            )
        },
        shapes=shapes,
        tables=tables,
    )


def _read_image(file: Path) -> tuple[da.Array, list[str]]:
    """Image as (c, y, x) with the names of its channels; Xenium's first channel is DAPI."""
    import tifffile

    from sjg.access._tiff import lazy_tiff

    with tifffile.TiffFile(file) as tiff:
        axes = tiff.series[0].axes
        names = re.findall(r"<Channel\b[^>]*?\bName=\"([^\"]+)\"", tiff.ome_metadata or "")
    if axes == "YX":
        image = lazy_tiff(file)[None]
    elif axes == "CYX":
        image = lazy_tiff(file, ndim=3)
    else:
        raise InputError(f"{str(file)!r} has axes {axes}; expected YX or CYX.")
    if len(names) != image.shape[0] or len(set(names)) < len(names):
        names = ["DAPI", *(f"channel_{i}" for i in range(1, image.shape[0]))]
    return image, names


def _ome_pixel_size(file: Path) -> float | None:
    """Physical size in the OME metadata of the image itself (not in the notes of the software that made it)."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        pixels = re.search(r"<Pixels\b[^>]*>", tiff.ome_metadata or "")
    size = re.search(r"\bPhysicalSizeX=\"([^\"]+)\"", pixels.group()) if pixels else None
    return float(size.group(1)) if size else None


def deduce_pixel_size(shape_px: NDArray[np.int64], extent_um: NDArray[np.float64]) -> float:
    """Pixel size at which an image of `shape_px` (x, y) is as large as `extent_um` (x, y): a level of the Xenium pyramid.

    Raises
    ------
    InputError
        No level fits within 5 %.
    """
    ratio = float(np.sqrt(np.prod(extent_um / shape_px)))
    level = max(0, round(float(np.log2(max(ratio, 1e-9) / _NATIVE_UM))))
    size = float(_NATIVE_UM * 2**level)
    if np.any(np.abs(shape_px * size - extent_um) > _TOLERANCE * extent_um):
        raise InputError(
            f"The pixel size of the image is not in the files, and its {shape_px[0]} x {shape_px[1]} pixels match the extent of the "
            f"transcripts ({extent_um[0]:.1f} x {extent_um[1]:.1f} um) at no level of the Xenium pyramid: give pixel_size_um= and origin_um=."
        )
    warnings.warn(f"pixel_size_um is not in the files; {size:g} fits the extent of the transcripts (pyramid level {level}).", stacklevel=4)
    return size


def deduce_origin(
    side_um: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], pixel_size_um: float
) -> NDArray[np.float64]:
    """(x, y) of the upper left corner of an image with sides `side_um` whose transcripts lie between `low` and `high`.

    Raises
    ------
    InputError
        The image neither covers the transcripts from the origin nor has their extent.
    """
    if np.all(low >= -_TOLERANCE * side_um) and np.all(high <= (1 + _TOLERANCE) * side_um):
        return np.zeros(2)
    if np.any(np.abs(side_um - (high - low)) > _TOLERANCE * side_um):
        raise InputError(
            f"The image ({side_um[0]:.1f} x {side_um[1]:.1f} um) does not cover the transcripts (x {low[0]:.1f} to {high[0]:.1f}, "
            f"y {low[1]:.1f} to {high[1]:.1f} um), nor has it their extent: give origin_um=, the (x, y) of its upper left corner."
        )
    # a cut-out starts at a whole pixel of the run's image
    origin = np.rint(((low + high) / 2 - side_um / 2) / pixel_size_um) * pixel_size_um
    warnings.warn(
        f"origin_um is not in the files; the image was centred on the transcripts, at ({origin[0]:.1f}, {origin[1]:.1f}).", stacklevel=4
    )
    return origin


def _read_transcripts(file: Path) -> DataFrame:
    import dask.dataframe as dd

    from sjg.io._molecule_rows import numbered_rows

    molecules = dd.read_parquet(file)
    lacking = [column for column in ("x_location", "y_location", "feature_name") if column not in molecules.columns]
    if lacking:
        raise InputError(f"{str(file)!r} has no column {', '.join(lacking)}; it has {', '.join(map(str, molecules.columns))}.")
    names = molecules["feature_name"].map_partitions(_as_text, meta=("feature_name", "object"))
    return numbered_rows(molecules.assign(feature_name=names.astype("category").cat.as_known()))


def _as_text(values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - a pandas Series on a worker
    from sjg.io._polygons import decoded

    return decoded(values).astype(object)


def _extent(molecules: DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest (x, y)."""
    from dask.base import compute

    xy = molecules[["x_location", "y_location"]]
    low, high = compute(xy.min(), xy.max())
    return low.to_numpy(), high.to_numpy()


def _read_boundaries(file: Path) -> GeoDataFrame:
    import pandas as pd

    from sjg.io._polygons import decoded, polygons_from_vertices

    vertices = pd.read_parquet(file)
    lacking = [column for column in ("cell_id", "vertex_x", "vertex_y") if column not in vertices]
    if lacking:
        raise InputError(f"{str(file)!r} has no column {', '.join(lacking)}; it has {', '.join(map(str, vertices.columns))}.")
    vertices = vertices.assign(cell_id=decoded(vertices["cell_id"]))
    if "label_id" not in vertices:
        return polygons_from_vertices(vertices, id_column="cell_id", x_column="vertex_x", y_column="vertex_y")
    # a cell may have several nuclei: they differ in label_id only
    polygons = polygons_from_vertices(vertices, id_column="label_id", x_column="vertex_x", y_column="vertex_y")
    cell_id = vertices.drop_duplicates("label_id").set_index("label_id")["cell_id"]
    return polygons.assign(cell_id=cell_id.reindex(polygons.index))


def _read_table(folder: Path) -> AnnData:
    """The platform's own counts."""
    import pandas as pd
    import scanpy as sc
    from spatialdata.models import TableModel

    from sjg._keys import INSTANCE_KEY, REGION_KEY
    from sjg.io._polygons import decoded

    table = sc.read_10x_h5(folder / "cell_feature_matrix.h5")
    table.var_names_make_unique()
    cells = pd.read_parquet(folder / "cells.parquet")
    cells = cells.assign(cell_id=decoded(cells["cell_id"])).set_index("cell_id")
    cells = cells.loc[cells.index.intersection(table.obs_names)]
    table = table[cells.index].copy()
    table.obs = cells.assign(**{REGION_KEY: pd.Categorical(["cell_boundaries"] * len(cells)), INSTANCE_KEY: cells.index.to_numpy()})
    table.obs.index.name = None
    table.obsm["spatial"] = cells[["x_centroid", "y_centroid"]].to_numpy()
    return TableModel.parse(table, region="cell_boundaries", region_key=REGION_KEY, instance_key=INSTANCE_KEY)
