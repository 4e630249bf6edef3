"""One progress bar for a run."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from sjg._logging import logger

#: share of the whole run that each phase takes, roughly
_PHASES = {"reading": 0.05, "training": 0.65, "types": 0.08, "cells": 0.14, "genes": 0.05, "writing": 0.03}


class RunProgress:
    """A bar with phase, epoch, loss and fraction assigned; silent where disabled and off a terminal or notebook.

    Parameters
    ----------
    enabled
        False never draws.
    """

    def __init__(self, *, enabled: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        visible = enabled and (console.is_terminal or console.is_jupyter)
        self._bar = Progress(
            TextColumn("sjg [bold]{task.fields[phase]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not visible,
            transient=False,
        )
        self._task = self._bar.add_task("run", total=1.0, phase="reading", detail="")
        self._phase = ""

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._bar.update(self._task, completed=1.0, phase="done")
        self._bar.stop()

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
        self._bar.update(self._task, completed=completed, phase=phase, detail=detail)
