"""Patch files of the original research code from any SpatialData object."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from sjg._keys import INSTANCE_KEY
from sjg.core import InputError, MissingElementError
from sjg.io._patch_files import METADATA, REQUIRED, find_patches
from sjg.io._patch_source import PatchSource
from sjg.io._patches_read import ATTRS, CLASSES, GENES, GROUND_TRUTH, NUCLEI, TABLE

if TYPE_CHECKING:
    from spatialdata import SpatialData

_DEFAULT_SIZE_PX = 128


def write_patches(
    sdata: SpatialData,
    directory: str | os.PathLike[str],
    *,
    patch_size_px: int | None = None,
    nuclei_key: str = NUCLEI,
    cell_type_key: str | None = "cell_type",
    points_key: str | None = None,
    feature_key: str | None = None,
    genes_key: str | None = None,
    image_key: str | None = None,
    channel: str | int | None = None,
    ground_truth_key: str | None = None,
    sigma_px: float = 2.0,
    background: Literal[-1, 0] = -1,
    coordinate_system: str = "global",
    overwrite: bool = False,
) -> None:
    """Write patch files ``p_<row>_<col>.npz`` on the pixel grid of the nuclei.

    An object from :func:`read_patches` is written as it was read, same names, folders, conventions and values, unless an argument
    says otherwise. Of any other object, densities are histograms of the transcripts per gene, blurred over the whole tissue (no seams).

    Parameters
    ----------
    sdata
        The object, which is not changed.
    directory
        Folder to make. It appears whole or not at all.
    patch_size_px
        Side of a patch in pixels of the nuclei; None = 128, or as read. The last row and column are filled up with background.
    nuclei_key
        Labels for ``instance``: nuclei, or the cells of a run. Ids are kept.
    cell_type_key
        Column of the table that annotates them, for ``label``; None writes one class ``cell``. Instances without a type get background
        as their class.
    points_key, feature_key
        Transcripts and their column with the gene; by default the only points.
    genes_key
        Image whose channels are written as ``image`` instead of transcripts, on the pixel grid of the nuclei.
    image_key, channel
        The nuclear stain for ``dapi``; by default the only image and its nuclear channel.
    ground_truth_key
        Labels for ``ground_truth``.
    sigma_px
        Standard deviation of the blur of densities in pixels.
    background
        What marks background in integer arrays. The original code expects -1: it adds 1 to ``label`` and ``instance``.
    coordinate_system
        Where the elements are brought together.
    overwrite
        Replace a folder that holds nothing but patch files.

    Returns
    -------
    None. Each file has ``image`` (C, H, W), ``spots`` (their sum over channels) and ``dapi`` (H, W) float32, ``label`` and ``instance``
    (H, W) int32 and perhaps ``ground_truth``; ``metadata.npz`` has ``gene_names`` (C,) and ``class_names`` (K,).

    Raises
    ------
    InputError
        An element cannot be used, the elements do not fit together, or the folder exists.

    Examples
    --------
    >>> import sjg, tempfile, pathlib
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(40, 40), n_cell_types=2, n_genes=8)
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "patches"
    >>> sjg.io.write_patches(sdata, folder, patch_size_px=64, cell_type_key=None)
    >>> sorted(path.name for path in folder.iterdir())
    ['metadata.npz', 'p_0_0.npz', 'p_0_1.npz', 'p_1_0.npz', 'p_1_1.npz']
    """
    if patch_size_px is not None and (isinstance(patch_size_px, bool) or not isinstance(patch_size_px, int) or patch_size_px < 1):
        raise InputError(f"patch_size_px is {patch_size_px!r}; give a whole number of pixels >= 1.")
    if background not in (-1, 0):
        raise InputError(f"background is {background!r}; give -1 or 0.")
    record = sdata.attrs.get(ATTRS)
    chosen = (points_key, feature_key, genes_key, image_key, channel, ground_truth_key)
    as_read = record is not None and nuclei_key == NUCLEI and cell_type_key == "cell_type" and all(key is None for key in chosen)
    if record is not None and as_read and (patch_size_px is None or [patch_size_px] * 2 == list(record["patch_shape_px"])):
        with _new_folder(Path(directory).expanduser(), overwrite=overwrite) as folder:
            _write_as_read(sdata, record, folder)
        return
    if genes_key is not None and (points_key is not None or feature_key is not None):
        raise InputError("genes_key= names an image and points_key= or feature_key= transcripts; give one of the two.")
    if record is not None:
        genes_key = GENES if genes_key is None and points_key is None else genes_key
        image_key = "dapi" if image_key is None else image_key
    source = PatchSource(sdata, nuclei_key, coordinate_system=coordinate_system)
    label, class_names = source.classes(cell_type_key)
    integers = {"label": label, "instance": source.ids}
    if ground_truth_key is not None:
        integers["ground_truth"] = source.labels(ground_truth_key)
    if genes_key is None:
        gene_names, densities = source.densities_of_points(points_key, feature_key, sigma_px)
    else:
        gene_names, densities = source.densities_of_image(genes_key)
    dapi = source.dapi(image_key, channel)

    size = patch_size_px or _DEFAULT_SIZE_PX
    n_rows, n_columns = (-(-side // size) for side in source.grid.shape)
    with _new_folder(Path(directory).expanduser(), overwrite=overwrite) as folder:
        for row, column in product(range(n_rows), range(n_columns)):
            window = slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size)
            image = densities(*window)
            floats = {"image": image, "spots": image.sum(axis=0, dtype=np.float32), "dapi": dapi[window]}
            arrays = {key: _padded(array, size, 0) for key, array in floats.items()}
            arrays |= {key: _padded(raster[window], size, 0) + np.int32(background) for key, raster in integers.items()}
            _save(folder / f"p_{row}_{column}.npz", arrays)
        _save(folder / METADATA, {"gene_names": np.array(gene_names, dtype=str), "class_names": np.array(class_names, dtype=str)})


def _write_as_read(sdata: SpatialData, record: Mapping[str, Any], folder: Path) -> None:
    """Give back the files from which read_patches made the object."""
    from spatialdata.models import get_channel_names

    from sjg.access._raster import raster_levels

    needed = {
        "image": sdata.images.get(GENES),
        "dapi": sdata.images.get("dapi"),
        "spots": sdata.images.get("spots"),
        "label": sdata.labels.get(CLASSES),
        "instance": sdata.labels.get(NUCLEI),
        "ground_truth": sdata.labels.get(GROUND_TRUTH),
    }
    lost = [key for key in REQUIRED if needed[key] is None]
    if any(file["ground_truth"] for file in record["files"]) and needed["ground_truth"] is None:
        lost.append("ground_truth")
    if lost or TABLE not in sdata.tables:
        raise MissingElementError(
            f"sdata.attrs[{ATTRS!r}] says that the object comes from patch files, but what it held of {', '.join(lost) or TABLE} is gone; "
            "delete that entry of attrs to write the object like any other."
        )
    planes = {key: raster_levels(element)[0].data for key, element in needed.items() if element is not None}
    offset, dtypes = record["background"], record["dtypes"]
    obs = sdata.tables[TABLE].obs
    known = obs[INSTANCE_KEY].to_numpy()
    present = np.unique(np.asarray(planes["instance"]))
    unknown = np.setdiff1d(present, [0, *known])
    if unknown.size:
        raise InputError(
            f"labels[{NUCLEI!r}] has ids without a row in tables[{TABLE!r}], e.g. {unknown[0]}, so their ids in the files are not known; "
            "write new labels under another key with nuclei_key=."
        )
    source = np.full(int(max(present.max(), known.max(initial=0))) + 1, offset["instance"], dtype=np.int64)
    source[known] = obs["source_id"].to_numpy()
    height, width = record["patch_shape_px"]
    for file in record["files"]:
        window = np.s_[..., file["row"] * height : (file["row"] + 1) * height, file["column"] * width : (file["column"] + 1) * width]
        arrays = {}
        for key, plane in planes.items():
            if key == "ground_truth" and not file["ground_truth"]:
                continue
            values = np.asarray(plane[window])
            if key == "instance":
                values = source[values]
            elif key in offset:
                values = values.astype(np.int64) + offset[key]
            elif key != "image":
                values = values[0]
            arrays[key] = values.astype(dtypes[key])
        path = folder / file["name"]
        path.parent.mkdir(exist_ok=True)
        _save(path, arrays)
    keys = record["metadata"]["keys"]
    names = {"genes": [str(name) for name in get_channel_names(sdata.images[GENES])], "classes": record["metadata"]["class_names"]}
    for name in record["metadata"]["files"]:
        (folder / name).parent.mkdir(exist_ok=True)
        _save(folder / name, {keys[kind]: np.array(names[kind], dtype=str) for kind in keys})


def _padded(array: NDArray[Any], size: int, value: int) -> NDArray[Any]:
    """Fill the last two axes up to a square."""
    missing = [(0, 0)] * (array.ndim - 2) + [(0, size - side) for side in array.shape[-2:]]
    return np.pad(array, missing, constant_values=value)


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    np.savez_compressed(path, allow_pickle=False, **arrays)


@contextmanager
def _new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to write to; on success it becomes `target`, on failure it is removed."""
    if target.exists() and not target.is_dir():
        raise InputError(f"{str(target)!r} is a file; name a folder.")
    if target.is_dir() and any(target.iterdir()):
        if not overwrite:
            raise InputError(f"{str(target)!r} is not empty: pass overwrite=True, or name another folder.")
        expected = {patch.path for patch in find_patches(target)} | {target / place / METADATA for place in ("", "train", "test")}
        others = sorted(str(path) for path in target.rglob("*") if not path.is_dir() and path not in expected)
        if others:
            raise InputError(f"{str(target)!r} holds more than patch files, e.g. {others[0]!r}; name another folder.")
    if not target.parent.is_dir():
        raise InputError(f"{str(target.parent)!r} is no folder: create it first.")
    partial = target.with_name(f".{uuid4().hex[:8]}.{target.name}")
    partial.mkdir()
    try:
        yield partial
        if target.is_dir():
            # the object may be read from these very files, so they stay until the new ones are whole
            old = target.with_name(f".{uuid4().hex[:8]}.{target.name}")
            target.rename(old)
            partial.rename(target)
            shutil.rmtree(old)
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
