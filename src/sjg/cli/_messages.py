"""Warnings of sjg as one line each on standard error; those of other packages only where asked for."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import typer

import sjg
from sjg._logging import logger

_PACKAGE = Path(sjg.__file__).parent


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _line(record.getMessage(), record.levelname.lower())


@contextmanager
def shown_messages(*, debug: bool) -> Iterator[None]:
    """Print sjg's own warnings as lines inside the block; `debug` shows everything, and what sjg reports while it works."""
    handler = _Lines(logging.INFO if debug else logging.WARNING)
    level = logger.level
    # says "no parent found" of every labels element that it reads, as a warning
    chatter = logging.getLogger("ome_zarr")
    chatter_level = chatter.level
    with warnings.catch_warnings():
        if not debug:
            warnings.showwarning = _show
            chatter.setLevel(logging.ERROR)
        else:
            logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            chatter.setLevel(chatter_level)


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    """In place of ``warnings.showwarning``: other packages' warnings mean nothing to the user of a command."""
    if _PACKAGE in Path(filename).resolve().parents:
        _line(str(message))


def _line(text: str, kind: str = "warning") -> None:
    typer.echo(f"sjg: {kind}: {' '.join(text.split())}", err=True)
