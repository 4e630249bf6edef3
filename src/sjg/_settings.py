"""Where sjg looks for data; the only settings that are not arguments."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: folder with data sets that the user already has
DATA_DIR_VARIABLE = "SJG_DATA_DIR"
#: folder for downloads
CACHE_DIR_VARIABLE = "SJG_CACHE_DIR"
#: threads that judge tiles
N_WORKERS_VARIABLE = "SJG_N_WORKERS"
#: folder for working files
SCRATCH_DIR_VARIABLE = "SJG_SCRATCH_DIR"


def _existing_folder(value: str | os.PathLike[str], source: str) -> Path:
    folder = Path(value).expanduser()
    if not folder.is_dir():
        msg = f"{source} is {str(folder)!r}, which is not a folder: create it, name another one, or unset it."
        raise ValueError(msg)
    return folder


def _positive(value: str | int, source: str) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
        msg = f"{source} is {value!r}: give a whole number >= 1."
        raise ValueError(msg)
    return int(value)


class Settings:
    """Folders that sjg reads from and downloads to, and its number of threads.

    A value set here goes before the environment variable, which goes before the default. The environment is read at each use, so
    that a variable set in a notebook counts.

    Examples
    --------
    >>> import sjg
    >>> with sjg.settings.override(data_dir="."):
    ...     str(sjg.settings.data_dir)
    '.'
    """

    def __init__(self) -> None:
        self._data_dir: Path | None = None
        self._cache_dir: Path | None = None
        self._scratch_dir: Path | None = None
        self._n_workers: int | None = None

    @property
    def data_dir(self) -> Path | None:
        """Folder with data sets at hand (``SJG_DATA_DIR``), None where there is none; it must exist."""
        if self._data_dir is not None:
            return self._data_dir
        value = os.environ.get(DATA_DIR_VARIABLE)
        return _existing_folder(value, f"The environment variable {DATA_DIR_VARIABLE}") if value else None

    @data_dir.setter
    def data_dir(self, value: str | os.PathLike[str] | None) -> None:
        self._data_dir = None if value is None else _existing_folder(value, "settings.data_dir")

    @property
    def cache_dir(self) -> Path:
        """Folder for downloads (``SJG_CACHE_DIR``, else the user's cache folder); made when something is downloaded."""
        if self._cache_dir is not None:
            return self._cache_dir
        value = os.environ.get(CACHE_DIR_VARIABLE)
        if value:
            return Path(value).expanduser()
        import pooch  # costs more than the rest of `import sjg`

        return Path(pooch.os_cache("sjg"))

    @cache_dir.setter
    def cache_dir(self, value: str | os.PathLike[str] | None) -> None:
        folder = None if value is None else Path(value).expanduser()
        if folder is not None and folder.exists() and not folder.is_dir():
            msg = f"settings.cache_dir is {str(folder)!r}, which is a file: name a folder."
            raise ValueError(msg)
        self._cache_dir = folder

    @property
    def scratch_dir(self) -> Path:
        """Folder for working files of large data (``SJG_SCRATCH_DIR``, else the system's temporary folder); it must exist.

        Best on a fast local disk; a temporary folder that lives in memory (``tmpfs``) saves none.
        """
        if self._scratch_dir is not None:
            return self._scratch_dir
        value = os.environ.get(SCRATCH_DIR_VARIABLE)
        if value:
            return _existing_folder(value, f"The environment variable {SCRATCH_DIR_VARIABLE}")
        return Path(tempfile.gettempdir())

    @scratch_dir.setter
    def scratch_dir(self, value: str | os.PathLike[str] | None) -> None:
        self._scratch_dir = None if value is None else _existing_folder(value, "settings.scratch_dir")

    @property
    def n_workers(self) -> int | None:
        """Threads that judge tiles of the tissue at the same time (``SJG_N_WORKERS``); results do not depend on it.

        None = as many as PyTorch has threads (``OMP_NUM_THREADS``); beside a GPU as many as there are cores, at most 8.
        """
        if self._n_workers is not None:
            return self._n_workers
        value = os.environ.get(N_WORKERS_VARIABLE)
        return _positive(value, f"The environment variable {N_WORKERS_VARIABLE}") if value else None

    @n_workers.setter
    def n_workers(self, value: int | None) -> None:
        self._n_workers = None if value is None else _positive(value, "settings.n_workers")

    @contextmanager
    def override(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        scratch_dir: str | os.PathLike[str] | None = None,
        n_workers: int | None = None,
    ) -> Iterator[Settings]:
        """Use other settings inside a ``with`` block.

        Parameters
        ----------
        data_dir
            Replaces :attr:`data_dir`; None leaves it.
        cache_dir
            Replaces :attr:`cache_dir`; None leaves it.
        scratch_dir
            Replaces :attr:`scratch_dir`; None leaves it.
        n_workers
            Replaces :attr:`n_workers`; None leaves it.

        Yields
        ------
        Settings
            The settings themselves.

        Raises
        ------
        ValueError
            A folder that cannot be used, or no positive number.
        """
        before = self._data_dir, self._cache_dir, self._scratch_dir, self._n_workers
        try:
            if data_dir is not None:
                self.data_dir = data_dir
            if cache_dir is not None:
                self.cache_dir = cache_dir
            if scratch_dir is not None:
                self.scratch_dir = scratch_dir
            if n_workers is not None:
                self.n_workers = n_workers
            yield self
        finally:
            self._data_dir, self._cache_dir, self._scratch_dir, self._n_workers = before

    def __repr__(self) -> str:
        return (
            f"Settings(data_dir={self.data_dir!r}, cache_dir={self.cache_dir!r}, scratch_dir={self.scratch_dir!r}, "
            f"n_workers={self.n_workers!r})"
        )


#: the settings of this process
settings = Settings()
