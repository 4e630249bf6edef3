"""Changes of a store on disk that happen as a whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from sjg._logging import logger
from sjg.core import InputError

#: files that hold the metadata of a Zarr group, formats 2 and 3
_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")
_KINDS = ("images", "labels", "points", "shapes", "tables")


def check_writable(path: Path) -> None:
    """Raise InputError where nothing can be written to the store at `path`."""
    mend = "write the object elsewhere first with sdata.write(new_path), or set sdata.path = None to keep results in memory"
    if not path.is_dir():
        raise InputError(f"The store {str(path)!r} that backs the SpatialData object is not there any more; {mend}.")
    places = [path, *(path / kind for kind in _KINDS if (path / kind).is_dir())]
    for place in places:
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise InputError(f"The store {str(path)!r} that backs the SpatialData object is read-only ({error}); {mend}.") from error


class StoreChange(AbstractContextManager["StoreChange"]):
    """Elements of a store are replaced; where the block raises, files are put back as they were.

    Old files are moved aside, not deleted, until the block ends well: to a hidden folder beside the store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> StoreChange:
        self._aside = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-sjg-", dir=self._aside_parent()))
        self._moved: list[tuple[Path, Path]] = []
        self._new: list[Path] = []
        self._kinds = {kind for kind in _KINDS if (self.path / kind).exists()}
        places = [self.path, *(self.path / kind for kind in _KINDS)]
        self._metadata = {place / name: _content(place / name) for place in places for name in _METADATA}
        return self

    def _aside_parent(self) -> Path:
        # beside the store Zarr does not come across the folder; inside is the way out where the parent cannot be written
        try:
            with tempfile.TemporaryFile(dir=self.path.parent):
                return self.path.parent
        except OSError:
            return self.path

    @property
    def scratch(self) -> Path:
        """A folder for files on their way into the store; it goes when the block ends."""
        folder = self._aside / "new"
        folder.mkdir(exist_ok=True)
        return folder

    def listing(self) -> dict[Path, bytes | None]:
        """What the store says that it holds."""
        return {self.path / name: _content(self.path / name) for name in _METADATA}

    def list_again(self, listing: dict[Path, bytes | None]) -> None:
        """Let the store say again what it said then."""
        for file, content in listing.items():
            if content is not None and _content(file) != content:
                file.write_bytes(content)

    def make_way(self, *place: str) -> Path:
        """Path in the store that is about to be written; what is there moves aside."""
        target = self.path.joinpath(*place)
        if target.exists():
            aside = self._aside / f"old-{len(self._moved)}"
            shutil.move(target, aside)
            self._moved.append((target, aside))
        self._new.append(target)
        return target

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._undo()
        shutil.rmtree(self._aside, ignore_errors=True)
        if self._aside.exists():
            logger.warning("could not delete %s; it is not needed any more", self._aside)

    def _undo(self) -> None:
        for place in self._new:
            if place.exists():
                shutil.rmtree(place)
        for place, aside in reversed(self._moved):
            shutil.move(aside, place)
        for kind in set(_KINDS) - self._kinds:
            if (self.path / kind).exists():
                shutil.rmtree(self.path / kind)
        for file, content in self._metadata.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
