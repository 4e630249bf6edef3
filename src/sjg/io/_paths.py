"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sjg.core import InputError


@contextmanager
def new_file(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """A path to write to; on success it becomes `path`, on failure it is removed.

    Raises
    ------
    InputError
        `path` exists and `overwrite` is false, or its folder does not exist.
    """
    target = Path(path).expanduser()
    if target.is_dir():
        raise InputError(f"{str(target)!r} is a folder: name a file in it.")
    if target.exists() and not overwrite:
        raise InputError(f"{str(target)!r} exists: pass overwrite=True, or name another file.")
    if not target.parent.is_dir():
        raise InputError(f"{str(target.parent)!r} is no folder: create it first.")
    # the suffixes stay: writers choose compression by them
    partial = target.with_name(f".{uuid4().hex[:8]}.{target.name}")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
