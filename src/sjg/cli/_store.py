"""Stores on disk: read, and written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sjg.core import ExistingElementError, InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData

_ZARR_FILES = ("zarr.json", ".zgroup", ".zmetadata")


def read_store(path: Path) -> SpatialData:
    """Read a SpatialData store, or say in one line why it is none."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not any((path / name).is_file() for name in _ZARR_FILES):
        raise InputError(f"{path} is no Zarr store; give a SpatialData store, as sdata.write(...) makes it")
    import spatialdata

    with warnings.catch_warnings():
        # about the store's format, which the user of a command cannot change
        warnings.simplefilter("ignore")
        try:
            return spatialdata.read_zarr(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read as SpatialData: {error}") from error


def check_new_path(path: Path, *, source: Path | None = None, overwrite: bool) -> None:
    """Refuse an output that exists, is the input, or has no folder, before any work."""
    if source is not None and path.exists() and path.resolve() == source.resolve():
        raise InputError(f"-o {path} is the input; leave -o out to write into it")
    if source is not None and source.resolve() in path.resolve().parents:
        raise InputError(f"-o {path} lies inside the input {source}; choose a place outside of it")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"-o {path}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"-o {path}: the folder {folder} is not writable")
    if path.exists() and not overwrite:
        raise ExistingElementError(f"{path} exists; give another name, or --overwrite to replace it")


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """A path to write to, beside `path`, that takes its place when the block ends well and is deleted when it fails."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        if path.exists():
            old = partial.with_suffix(".old")
            path.rename(old)
            try:
                partial.rename(path)
            except OSError:
                old.rename(path)
                raise
            _delete(old)
        else:
            partial.rename(path)
    finally:
        _delete(partial)


def write_store(sdata: SpatialData, path: Path) -> None:
    """Write an object to a new store at `path`, whole or not at all; a store of that name is replaced."""
    with complete_or_absent(path) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sdata.write(partial, update_sdata_path=False)


def read_reference(text: str | None, sdata: SpatialData) -> Any:
    """A reference as ``tl.segment`` takes it: a table key of `sdata`, an AnnData from ``.h5ad``, class means from ``.csv``."""
    if text is None or text in sdata.tables:
        return text
    path = Path(text)
    if not path.is_file():
        raise InputError(f"--reference {text}: neither a table of the store ({sorted(sdata.tables)}) nor a file")
    if path.suffix == ".h5ad":
        import anndata

        return anndata.read_h5ad(path)
    if path.suffix in {".csv", ".gz", ".tsv"}:
        import pandas as pd

        return pd.read_csv(path, index_col=0, sep="\t" if ".tsv" in path.suffixes else ",")
    raise InputError(f"--reference {text}: give .h5ad (cells or class means) or .csv (genes x classes)")


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
