"""One progress bar for a run."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol

from sjg._logging import logger

#: share of the whole run that each phase takes, roughly
_PHASES = {"reading": 0.03, "nuclei": 0.02, "training": 0.65, "types": 0.08, "cells": 0.14, "genes": 0.05, "writing": 0.03}
#: seconds between two drawings in a notebook, where each one is a message to the browser
_REDRAW_S = 0.5
_WIDTH = 24


class RunProgress:
    """A bar with phase, epoch, loss and fraction assigned; silent where disabled and off a terminal or notebook.

    Parameters
    ----------
    enabled
        False never draws.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._bar: _Bar = NotebookBar() if enabled and in_notebook() else TerminalBar(enabled=enabled)
        self._phase = ""

    def __enter__(self) -> RunProgress:
        self._bar.show(0.0, "reading", "")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close(done=error is None)

    def __call__(self, record: dict[str, Any]) -> None:
        """Show a record with ``phase``, ``done`` and ``total``, and ``epoch``, ``loss``, ``fraction_assigned`` while training."""
        phase = record["phase"]
        if phase != self._phase:
            logger.debug("phase %s", phase)
            self._phase = phase
        names = list(_PHASES)
        before = sum(_PHASES[p] for p in names[: names.index(phase)])
        completed = before + _PHASES[phase] * record["done"] / max(record["total"], 1)
        detail = ""
        if "loss" in record:
            detail = f"epoch {record['epoch']}  loss {record['loss']:.3f}  "
            detail += f"assigned {record['fraction_assigned']:.0%}" if "fraction_assigned" in record else f"covered {record['covered']:.0%}"
        self._bar.show(completed, phase, detail)


class _Bar(Protocol):
    def show(self, completed: float, phase: str, detail: str) -> None: ...

    def close(self, *, done: bool) -> None: ...


class TerminalBar:
    """A bar of rich; off a terminal it draws nothing."""

    def __init__(self, *, enabled: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("sjg [bold]{task.fields[phase]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not (enabled and console.is_terminal),
        )
        self._task = self._bar.add_task("run", total=1.0, phase="", detail="")
        self._bar.start()

    def show(self, completed: float, phase: str, detail: str) -> None:
        self._bar.update(self._task, completed=completed, phase=phase, detail=detail)

    def close(self, *, done: bool) -> None:
        if done:
            self._bar.update(self._task, completed=1.0, phase="done")
        # rich before 14.3 ends a line that it has not begun
        if not self._bar.disable:
            self._bar.stop()


class NotebookBar:
    """A line of text under the cell, redrawn in place: needs no widgets, which rich does and complains about where they are missing."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._start = self._drawn = time.monotonic()
        self._last = ("", "")

    def show(self, completed: float, phase: str, detail: str) -> None:
        now = time.monotonic()
        self._last = (phase, detail)
        if self._handle is not None and now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        n = round(_WIDTH * completed)
        self._draw(f"sjg {phase:<8} {'━' * n}{'┈' * (_WIDTH - n)} {completed:4.0%}  {self._elapsed()}  {detail}")

    def close(self, *, done: bool) -> None:
        if done:
            self._draw(f"sjg done     {'━' * _WIDTH} 100%  {self._elapsed()}  {self._last[1]}")

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        return f"{minutes}:{seconds:02d}"

    def _draw(self, text: str) -> None:
        from IPython.display import display

        data = {"text/plain": text.rstrip()}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; IPython is imported there already, and nowhere else."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
