"""The mouse hippocampus CA1 section of Qian et al. 2020."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sjg._logging import logger
from sjg._settings import CACHE_DIR_VARIABLE, DATA_DIR_VARIABLE, settings
from sjg.core import InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: folder of the data set below a data folder
_FOLDER = "mouse_ca1_iss"
#: where to download from when no `url` is given
URL_VARIABLE = "SJG_MOUSE_CA1_URL"
#: the files and their SHA-256
_REGISTRY = {
    "dapi.tif": "d6d5b5a16550088836c896c99c88cf6b285f42ce5767a7b6ad277ade4195ac95",
    "nuclei_labels.tif": "01c6822e1ae08e8efcf9a99f0812eb1d4152f694bd7547ab21716f7b9a826e64",
    "reference_class_means.csv": "d691c66a14d3198f4f572ce6735e42faaff8d510c43d961ed392c5178aa0dbc0",
    "transcripts.csv.gz": "24797654c664dfb6eefd3f516a26c727dd1a92a8d6c177b2e988d28618af1839",
}


def mouse_ca1(path: str | os.PathLike[str] | None = None, *, url: str | None = None) -> SpatialData:
    """Mouse hippocampus CA1 by in situ sequencing: one whole section, 92 genes, 3,481 nuclei, 72,336 transcripts.

    The section of Qian et al. :cite:p:`qian2020pciseq`, as distributed with pciSeq, and the tissue of the SegJointGene paper. It is
    sparse (a median of 7 transcripts per nucleus). The source states no pixel size, so everything stays in pixels; nuclei with a
    median diameter of 37 px put it near 0.325 um.

    Parameters
    ----------
    path
        Folder with ``dapi.tif``, ``nuclei_labels.tif``, ``transcripts.csv.gz`` and ``reference_class_means.csv``. By default
        ``mouse_ca1_iss`` in the folder named by the environment variable ``SJG_DATA_DIR`` (:attr:`sjg.settings.data_dir`), else the
        cache of earlier downloads (:attr:`sjg.settings.cache_dir`), else a download from `url`.
    url
        Address of a folder that serves the four files; by default the environment variable ``SJG_MOUSE_CA1_URL``. Nothing is
        downloaded without it, and every file is checked against its SHA-256.

    Returns
    -------
    SpatialData with coordinate system ``global`` in pixels

    - ``images["dapi"]``: (c, y, x) uint8, channel ``dapi``, read lazily
    - ``labels["nuclei"]``: (y, x) uint16, ids 1 to 3481, read lazily
    - ``points["transcripts"]``: ``x``, ``y`` in pixels, categorical ``gene`` (the feature key); six lie outside the image
    - ``tables["reference"]``: 71 classes x 92 genes, mean counts of single-cell RNA sequencing

    Raises
    ------
    InputError
        A file is missing, damaged or not as described; the message says where it was looked for.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.mouse_ca1()  # doctest: +SKIP
    >>> sdata["dapi"].shape  # doctest: +SKIP
    (1, 5471, 7602)
    """
    folder = _find(path, url or os.environ.get(URL_VARIABLE))
    logger.info("reading mouse CA1 from %s", folder)
    return _read(folder)


def _find(path: str | os.PathLike[str] | None, url: str | None) -> Path:
    """The folder that holds all four files, after a download if need be."""
    if path is not None:
        return _complete(Path(path).expanduser(), "path")
    if settings.data_dir is not None and (settings.data_dir / _FOLDER).is_dir():
        return _complete(settings.data_dir / _FOLDER, f"{DATA_DIR_VARIABLE} (settings.data_dir)")
    cache = settings.cache_dir / _FOLDER
    missing = [name for name in _REGISTRY if not (cache / name).is_file()]
    if missing and url is None:
        raise InputError(
            f"The mouse CA1 section is not on this machine: no {_FOLDER!r} in the data folder ({settings.data_dir}), and "
            f"{', '.join(missing)} missing from the cache ({cache}). Give path=, the folder with {', '.join(_REGISTRY)}; or set "
            f"{DATA_DIR_VARIABLE} to the folder above it; or give url= (or set {URL_VARIABLE}), the address of a folder that serves "
            f"the files, to download them to the cache ({CACHE_DIR_VARIABLE})."
        )
    return _fetch(cache, url)


def _complete(folder: Path, source: str) -> Path:
    missing = [name for name in _REGISTRY if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{source}: {str(folder)!r} lacks {', '.join(missing)}; the data set consists of {', '.join(_REGISTRY)}.")
    return folder


def _fetch(cache: Path, url: str | None) -> Path:
    """Download what is missing and check all of it."""
    import pooch

    store = pooch.create(path=cache, base_url=f"{(url or '').rstrip('/')}/", registry=_REGISTRY)
    for name in _REGISTRY:
        if (cache / name).is_file() and url is None and pooch.file_hash(str(cache / name)) != _REGISTRY[name]:
            raise InputError(f"{str(cache / name)!r} is damaged (its SHA-256 differs): delete it, and give url= to fetch it again.")
        try:
            store.fetch(name)
        except (OSError, ValueError) as error:
            raise InputError(f"{name} could not be fetched from {url!r}: {error}. Check url= (or {URL_VARIABLE}).") from error
    return cache


def _read(folder: Path) -> SpatialData:
    """The four files as SpatialData."""
    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
    from spatialdata.transformations import Identity

    from sjg.access._class_means import class_means
    from sjg.access._tiff import lazy_tiff

    dapi, nuclei = lazy_tiff(folder / "dapi.tif"), lazy_tiff(folder / "nuclei_labels.tif")
    if dapi.shape != nuclei.shape:
        raise InputError(
            f"dapi.tif {dapi.shape} and nuclei_labels.tif {nuclei.shape} in {str(folder)!r} differ in shape: fetch them again."
        )
    molecules = pd.read_csv(folder / "transcripts.csv.gz")
    lacking = [column for column in ("x", "y", "gene") if column not in molecules]
    if lacking:
        raise InputError(f"transcripts.csv.gz has no column {', '.join(lacking)}; it has {', '.join(map(str, molecules.columns))}.")
    molecules = molecules.astype({"x": "float64", "y": "float64", "gene": "category"})
    means, types, genes = class_means(pd.read_csv(folder / "reference_class_means.csv", index_col=0))
    reference = AnnData(means, obs=pd.DataFrame(index=list(types)), var=pd.DataFrame(index=list(genes)))
    return SpatialData(
        images={"dapi": Image2DModel.parse(dapi[None], dims=("c", "y", "x"), c_coords=["dapi"], transformations={"global": Identity()})},
        labels={"nuclei": Labels2DModel.parse(nuclei, dims=("y", "x"), transformations={"global": Identity()})},
        points={
            "transcripts": PointsModel.parse(
                molecules[["x", "y", "gene"]],
                coordinates={"x": "x", "y": "y"},
                feature_key="gene",
                transformations={"global": Identity()},
                npartitions=1,
            )
        },
        tables={"reference": TableModel.parse(reference)},
    )
