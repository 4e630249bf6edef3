"""Patch files of the original research code into one SpatialData object."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sjg._logging import logger
from sjg.core import InputError
from sjg.io._patch_files import INTEGER_KEYS, PatchFile, find_patches, load_names, load_patch, unknown_keys
from sjg.io._patch_ids import ids_span_patches, number_instances

if TYPE_CHECKING:
    import dask.array as da
    from anndata import AnnData
    from spatialdata import SpatialData

#: key of ``sdata.attrs`` with what write_patches needs to give the files back
ATTRS = "sjg_patches"
#: elements
GENES, NUCLEI, CLASSES, GROUND_TRUTH, TABLE = "genes", "nuclei", "cell_types", "ground_truth", "nuclei_table"
#: more places than this for each file are no tissue with gaps
_MAX_EMPTY = 50


def read_patches(
    directory: str | PathLike[str],
    *,
    background: Literal["auto", -1, 0] = "auto",
    instance_ids: Literal["auto", "tissue", "patch"] = "auto",
) -> SpatialData:
    """Read a folder of patch files ``p_<row>_<col>.npz`` into one object.

    Files lie in the folder or in its folders ``train`` and ``test``; ``p_<group_row>_<group_col>_<row>_<col>.npz`` is read as well.
    Each file has ``image`` (C, H, W), ``spots`` and ``dapi`` (H, W), floating point, and ``label`` (the class), ``instance`` and
    perhaps ``ground_truth`` (H, W), integers. ``metadata.npz`` may hold ``gene_names`` (C,) and ``class_names`` (K,), text.
    All files are checked, one in memory at a time; the image stays on disk until it is used. Nothing is unpickled.

    Parameters
    ----------
    directory
        The folder.
    background
        What marks background in ``label``, ``instance`` and ``ground_truth``. ``"auto"``: -1 where the key has a -1 in any file (so
        0 is a class or an instance), else 0.
    instance_ids
        Whether an id in two patches is one cell, ``"tissue"``, or two, ``"patch"``. ``"auto"``: one numbering for the tissue if the
        pieces of ids that occur in several patches mostly touch across the seams.

    Returns
    -------
    SpatialData whose coordinate system ``global`` is the pixel grid of the tissue, patch (0, 0) at its origin; places without a
    patch are empty

    - ``images["genes"]``: (c, y, x) densities, channels named by gene (``gene_<index>`` without names)
    - ``images["dapi"]``, ``images["spots"]``: (c, y, x), one channel
    - ``labels["nuclei"]``: (y, x) int32 instances 1..n, cells that continue across patches as one
    - ``labels["cell_types"]``: (y, x) int32 classes, 0 = background
    - ``labels["ground_truth"]``: (y, x) int32, where any file has it
    - ``tables["nuclei_table"]``: annotates ``nuclei``; ``X`` the density of each gene summed over the nucleus; ``obs["cell_type"]``
      the most frequent class of its pixels (missing where that is the background), ``obs["source_id"]`` its id in the files, and
      ``obs["patch"]`` the number of its patch where every patch counts for itself
    - ``attrs["sjg_patches"]``: names and places of the files and conventions, from which :func:`write_patches` gives them back

    Raises
    ------
    InputError
        A file has a wrong name, is damaged, lacks a key, or holds other shapes, dtypes or values than described, or sizes differ
        between files. The message names the file and the reason.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib, sjg
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> plane = np.zeros((8, 8), np.float32)
    >>> ids = np.full((8, 8), -1)
    >>> ids[2:5, 5:] = 0
    >>> np.savez(folder / "p_0_0.npz", image=plane[None], label=ids, instance=ids, spots=plane, dapi=plane)
    >>> np.savez(folder / "p_0_1.npz", image=plane[None], label=ids[:, ::-1], instance=ids[:, ::-1], spots=plane, dapi=plane)
    >>> sdata = sjg.io.read_patches(folder)
    >>> sdata["genes"].shape, int(sdata["nuclei"].max()), list(sdata["nuclei_table"].obs["cell_type"])
    ((1, 8, 16), 1, ['0'])
    """
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, Labels2DModel
    from spatialdata.transformations import Identity, Translation

    if background not in ("auto", -1, 0) or instance_ids not in ("auto", "tissue", "patch"):
        raise InputError(
            f"background={background!r} must be 'auto', -1 or 0, and instance_ids={instance_ids!r} 'auto', 'tissue' or 'patch'."
        )
    folder = Path(directory).expanduser()
    patches = find_patches(folder)
    scan = _Scan(patches)
    keys, metadata, gene_names, class_names = load_names(folder, scan.n_channels)
    genes = gene_names or [f"gene_{index}" for index in range(scan.n_channels)]

    offset = {key: scan.offset(key, background) for key in scan.integers}
    rasters = {key: np.where(scan.present, raster + (offset[key] == -1), 0).astype(np.int32) for key, raster in scan.integers.items()}
    if instance_ids == "auto":
        instance_ids = "tissue" if ids_span_patches(rasters["instance"], scan.patch_shape) else "patch"
        logger.info("patches of %s: instance ids are taken to be those of the %s", folder, instance_ids)
    nuclei, source, patch = number_instances(rasters["instance"], scan.patch_shape, instance_ids)
    source = source + offset["instance"]

    origin = [scan.first_column * scan.patch_shape[1], scan.first_row * scan.patch_shape[0]]

    def place() -> dict[str, Any]:
        return {"global": Translation(origin, axes=("x", "y")) if any(origin) else Identity()}

    images = {
        GENES: Image2DModel.parse(scan.lazy("image"), dims=("c", "y", "x"), c_coords=genes, transformations=place()),
        **{
            key: Image2DModel.parse(scan.lazy(key), dims=("c", "y", "x"), c_coords=[key], transformations=place())
            for key in ("dapi", "spots")
        },
    }
    labels = {NUCLEI: nuclei, CLASSES: rasters["label"]}
    if "ground_truth" in rasters:
        labels[GROUND_TRUTH] = rasters["ground_truth"]
    record = {
        "patch_shape_px": [int(size) for size in scan.patch_shape],
        "files": [
            {"name": p.name, "row": p.row - scan.first_row, "column": p.column - scan.first_column, "ground_truth": has}
            for p, has in zip(patches, scan.has_ground_truth, strict=True)
        ],
        "background": {key: int(value) for key, value in offset.items()},
        "dtypes": scan.dtypes,
        "metadata": {"files": metadata, "keys": keys, "class_names": class_names or []},
    }
    table = _nuclei_table(scan, nuclei, rasters["label"], genes, _type_names(rasters["label"], offset["label"], class_names))
    table.obs["source_id"] = source
    if instance_ids == "patch":
        table.obs["patch"] = patch
    return SpatialData(
        images=images,
        labels={key: Labels2DModel.parse(raster, dims=("y", "x"), transformations=place()) for key, raster in labels.items()},
        tables={TABLE: table},
        attrs={ATTRS: record},
    )


class _Scan:
    """One pass over the files: every file checked, integer rasters kept, images left on disk."""

    def __init__(self, patches: list[PatchFile]) -> None:
        self.patches = patches
        self.first_row, self.first_column = min(p.row for p in patches), min(p.column for p in patches)
        self.n_rows = max(p.row for p in patches) - self.first_row + 1
        self.n_columns = max(p.column for p in patches) - self.first_column + 1
        if self.n_rows * self.n_columns > _MAX_EMPTY * (len(patches) + 10):
            raise InputError(
                f"The names of {len(patches)} files, e.g. {patches[-1].name!r}, span {self.n_rows} x {self.n_columns} patches; they must count "
                "rows and columns of patches, not pixels: rename them."
            )
        self.integers: dict[str, NDArray[Any]] = {}
        self.has_ground_truth: list[bool] = []
        for patch in patches:
            arrays = load_patch(patch.path)
            if patch is patches[0]:
                self._start(arrays)
                others = unknown_keys(patch.path)
                if others:
                    logger.warning("%s: keys %s are not read, and not written again by write_patches", patch.name, ", ".join(others))
            self._check_like_first(patch, arrays)
            self.has_ground_truth.append("ground_truth" in arrays)
            self.present[self.window(patch)] = True
            for key in INTEGER_KEYS:
                if key in arrays:
                    self.dtypes.setdefault(key, str(arrays[key].dtype))
                    # places without a patch are masked later on
                    raster = self.integers.setdefault(key, np.zeros(self.present.shape, dtype=np.int32))
                    raster[self.window(patch)] = arrays[key]

    def _start(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.n_channels = len(arrays["image"])
        self.patch_shape = (int(arrays["image"].shape[1]), int(arrays["image"].shape[2]))
        self.dtypes = {key: str(array.dtype) for key, array in arrays.items()}
        self.present = np.zeros((self.n_rows * self.patch_shape[0], self.n_columns * self.patch_shape[1]), dtype=bool)

    def _check_like_first(self, patch: PatchFile, arrays: dict[str, NDArray[Any]]) -> None:
        shape = (self.n_channels, *self.patch_shape)
        if arrays["image"].shape != shape:
            raise InputError(
                f"{str(patch.path)!r} has an image of shape {arrays['image'].shape} and {str(self.patches[0].path)!r} one of {shape}; "
                "all patches of a folder must have one size."
            )
        for key, array in arrays.items():
            expected = self.dtypes.get(key, str(array.dtype))
            if str(array.dtype) != expected:
                raise InputError(
                    f"{str(patch.path)!r}: {key!r} holds {array.dtype} values and {expected} in the other files; use one type."
                )

    def window(self, patch: PatchFile) -> tuple[slice, slice]:
        height, width = self.patch_shape
        top, left = (patch.row - self.first_row) * height, (patch.column - self.first_column) * width
        return slice(top, top + height), slice(left, left + width)

    def offset(self, key: str, background: Literal["auto", -1, 0]) -> int:
        """What marks background under `key`."""
        lowest = int(self.integers[key][self.present].min())
        if background == 0 and lowest < 0:
            raise InputError(f"background=0, but {key!r} has -1 in some of the files; pass background=-1 or leave it out.")
        return (-1 if lowest < 0 else 0) if background == "auto" else background

    def lazy(self, key: str) -> da.Array:
        """(channels, height, width) of all patches, read when computed; zero where there is no patch."""
        import dask.array as da
        from dask.delayed import delayed

        shape = (self.n_channels if key == "image" else 1, *self.patch_shape)
        read = delayed(_read_planes, pure=True)
        empty = da.zeros(shape, dtype=self.dtypes[key], chunks=shape)
        blocks = [[empty] * self.n_columns for _ in range(self.n_rows)]
        for patch in self.patches:
            planes = da.from_delayed(read(patch.path, key), shape=shape, dtype=self.dtypes[key])
            blocks[patch.row - self.first_row][patch.column - self.first_column] = planes
        return da.concatenate([da.concatenate(row, axis=2) for row in blocks], axis=1)


def _read_planes(path: Path, key: str) -> NDArray[Any]:
    array = load_patch(path)[key]
    return array if array.ndim == 3 else array[None]


def _type_names(classes: NDArray[np.int32], offset: int, class_names: list[str] | None) -> list[str]:
    """Names of classes 1..K; without names the number in the files."""
    n_types = int(classes.max(initial=0))
    if class_names is None:
        return [str(number + offset) for number in range(1, n_types + 1)]
    if len(class_names) < n_types:
        raise InputError(f"The files have classes up to {n_types + offset} and metadata.npz {len(class_names)} class names; name them all.")
    return class_names


def _nuclei_table(scan: _Scan, nuclei: NDArray[np.int32], classes: NDArray[np.int32], genes: list[str], names: list[str]) -> AnnData:
    """Table of the nuclei: summed densities and the most frequent class."""
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import coo_array
    from spatialdata.models import TableModel

    from sjg._keys import INSTANCE_KEY, REGION_KEY

    n = int(nuclei.max(initial=0))
    inside = nuclei > 0
    # pixels of each class in each nucleus
    votes = coo_array((np.ones(int(inside.sum())), (nuclei[inside] - 1, classes[inside])), shape=(n, len(names) + 1)).tocsr()
    winner = votes.argmax(axis=1).ravel() if n else np.empty(0, dtype=np.int64)
    if n and int((votes > 0).sum()) > n:
        logger.warning(
            "%d nuclei have pixels of several classes; each gets the most frequent one", int(((votes > 0).sum(axis=1) > 1).sum())
        )
    density = np.zeros((n, len(genes)), dtype=np.float64)
    for patch in scan.patches:
        here = nuclei[scan.window(patch)]
        present, index = np.unique(here, return_inverse=True)
        image = load_patch(patch.path)["image"].reshape(len(genes), -1)
        onehot = coo_array((np.ones(here.size), (index.ravel(), np.arange(here.size))), shape=(len(present), here.size)).tocsr()
        sums = onehot @ image.T.astype(np.float64)
        density[present[present > 0] - 1] += sums[present > 0]
    obs = pd.DataFrame(
        {
            REGION_KEY: pd.Categorical.from_codes(np.zeros(n, dtype=np.int8), categories=[NUCLEI]),
            INSTANCE_KEY: np.arange(1, n + 1),
            "cell_type": pd.Categorical.from_codes(winner - 1, categories=names),
        },
        index=pd.Index(np.arange(1, n + 1).astype(str), dtype=object),
    )
    table = AnnData(X=density.astype(np.float32), obs=obs, var=pd.DataFrame(index=pd.Index(genes, dtype=object)))
    parsed: AnnData = TableModel.parse(table, region=NUCLEI, region_key=REGION_KEY, instance_key=INSTANCE_KEY)
    return parsed
