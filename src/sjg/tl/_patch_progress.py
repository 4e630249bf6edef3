"""A bar over patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sjg.tl._progress import NotebookBar, in_notebook


@contextmanager
def patch_progress(enabled: bool, label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that moves a bar; silent where disabled and off a terminal or notebook."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    if enabled and in_notebook():
        line = NotebookBar()
        yield lambda done, total: line.show(done / max(total, 1), label, f"{done}/{total}")
        line.close(done=True)
        return
    console = Console(stderr=True)
    visible = enabled and console.is_terminal
    columns = (TextColumn("sjg [bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    if not visible:
        # rich before 14.3 ends a line that it has not begun
        yield lambda done, total: None
        return
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report
