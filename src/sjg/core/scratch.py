"""Arrays too large for memory: memory-mapped, in files that vanish with the process."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sjg._settings import settings
from sjg.core.buckets import parts
from sjg.core.errors import ScratchError

#: smaller arrays stay in memory; a run has some twenty that grow with the slide
_IN_MEMORY_BYTES = 8 * 2**20


def scratch_zeros(shape: int | tuple[int, ...], dtype: DTypeLike, *, path: Path | None = None) -> NDArray[Any]:
    """An array of zeros: in memory where it is small, else in a file of :attr:`sjg.settings.scratch_dir`.

    The file has no name, so that nothing is left behind however the process ends; its room on disk is reserved at once, so that a
    full disk is an error here and not a crash later.

    Parameters
    ----------
    shape, dtype
        As for :func:`numpy.zeros`.
    path
        A file to keep, whatever the size: what it holds already is there again. None for a file without a name.

    Raises
    ------
    ScratchError
        There is no room, or the folder cannot be written.

    Examples
    --------
    >>> from sjg.core.scratch import scratch_zeros
    >>> int(scratch_zeros((2, 3), "int32").sum())
    0
    """
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if n_bytes == 0 or (path is None and n_bytes <= _IN_MEMORY_BYTES):
        return np.zeros(shape, dtype)
    folder = settings.scratch_dir if path is None else path.parent
    try:
        if path is None:
            descriptor, name = tempfile.mkstemp(prefix="sjg-", suffix=".scratch", dir=folder)
        else:
            name, descriptor = str(path), os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _reserve(descriptor, n_bytes)
            mapped = np.memmap(name, dtype, "r+", shape=shape)
        except BaseException:
            os.unlink(name)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ScratchError(
            f"{n_bytes / 2**30:.2f} GiB of working space could not be had in {folder} ({error}); free space there, or name another "
            "folder with sjg.settings.scratch_dir or SJG_SCRATCH_DIR."
        ) from error
    if path is None:
        try:
            os.unlink(name)
        except OSError:  # Windows keeps the name as long as the file is open
            weakref.finalize(mapped, _unlink, name)
    return mapped.view(np.ndarray)


class GrowingArray:
    """Rows that come one batch after the other, in memory as long as they are few and then in a working file.

    Parameters
    ----------
    dtype
        Type of the values.
    row_shape
        Shape of a row.

    Examples
    --------
    >>> from sjg.core.scratch import GrowingArray
    >>> rows = GrowingArray("int32")
    >>> rows.append([1, 2])
    >>> rows.append([3])
    >>> rows.finish().tolist()
    [1, 2, 3]
    """

    def __init__(self, dtype: DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self._dtype, self._row_shape = np.dtype(dtype), row_shape
        self._batches: list[NDArray[Any]] = []
        self._whole = scratch_zeros((0, *row_shape), dtype)
        self._n_rows = self._n_waiting = 0

    def append(self, rows: ArrayLike) -> None:
        """Add rows at the end."""
        batch = np.asarray(rows, self._dtype)
        self._batches.append(batch)
        self._n_waiting += len(batch)
        if sum(b.nbytes for b in self._batches) > _IN_MEMORY_BYTES:
            self._move()

    def finish(self) -> NDArray[Any]:
        """All rows."""
        if self._n_rows == 0:
            return np.concatenate(self._batches) if self._batches else self._whole
        self._move()
        return self._whole[: self._n_rows]

    def _move(self) -> None:
        needed = self._n_rows + self._n_waiting
        if needed > len(self._whole):
            # doubled, so that every row is copied a few times at most
            larger = scratch_zeros((max(needed, 2 * len(self._whole)), *self._row_shape), self._dtype)
            for part in parts(self._n_rows):
                larger[part] = self._whole[part]
            self._whole = larger
        for batch in self._batches:
            self._whole[self._n_rows : self._n_rows + len(batch)] = batch
            self._n_rows += len(batch)
        self._batches, self._n_waiting = [], 0
        release(self._whole)


def release(*arrays: NDArray[Any] | None) -> None:
    """Give the memory of memory-mapped arrays back; their content stays on disk and is read again where needed."""
    for array in arrays:
        mapping = _mapping(array)
        if mapping is not None and hasattr(mapping, "madvise"):
            mapping.madvise(mmap.MADV_DONTNEED)


class Releasing:
    """An array that is read by copies, after which the memory of its mapping is given back.

    Parameters
    ----------
    array
        What :func:`scratch_zeros` made.

    Examples
    --------
    >>> from sjg.core.scratch import Releasing, scratch_zeros
    >>> Releasing(scratch_zeros((2, 3), "int32"))[0].tolist()
    [0, 0, 0]
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index: Any) -> NDArray[Any]:
        found = np.array(self._array[index])
        release(self._array)
        return found


def flush(*arrays: NDArray[Any] | None) -> None:
    """Wait until memory-mapped arrays are on disk."""
    for array in arrays:
        mapping = _mapping(array)
        if mapping is not None:
            mapping.flush()


def _mapping(array: Any) -> mmap.mmap | None:
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array


def _reserve(descriptor: int, n_bytes: int) -> None:
    if os.fstat(descriptor).st_size != n_bytes:
        os.ftruncate(descriptor, n_bytes)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)


def _unlink(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)
