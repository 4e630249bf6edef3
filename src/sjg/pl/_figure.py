"""Figures that leave pyplot and its settings alone."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sjg.core import InputError

if TYPE_CHECKING:
    import numpy as np

#: resolution of saved raster figures
SAVE_DPI = 200


def new_figure(size_in: tuple[float, float], *, show: bool | None) -> Figure:
    """A figure that pyplot does not know, except where a window was asked for."""
    if show:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=size_in, layout="constrained")
    figure = Figure(figsize=size_in, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def root_figure(ax: Axes) -> Figure:
    """The figure at the top of `ax` (axes may live in a subfigure)."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise InputError("ax belongs to no figure (was it removed?); give axes of a living figure")
    return figure


def tidy_axes(ax: Axes, label_size: int = 8) -> None:
    """Small tick labels, no frame at the top and on the right."""
    ax.tick_params(labelsize=label_size)
    ax.spines[["top", "right"]].set_visible(False)


def panels(
    n: int,
    *,
    ax: Axes | Sequence[Axes] | np.ndarray[Any, Any] | None,
    size_in: tuple[float, float],
    show: bool | None,
    max_columns: int = 4,
) -> tuple[Figure, list[Axes]]:
    """`n` axes: the given ones, or a new grid of panels of `size_in` inches."""
    if ax is not None:
        flat = [ax] if isinstance(ax, Axes) else _flatten(ax)
        if len(flat) != n:
            raise InputError(f"ax holds {len(flat)} axes and {n} panels are to be drawn; give {n} axes or leave ax out")
        return root_figure(flat[0]), flat
    columns = min(n, max_columns)
    rows = -(-n // columns)
    figure = new_figure((size_in[0] * columns, size_in[1] * rows), show=show)
    grid = figure.subplots(rows, columns, squeeze=False)
    for spare in grid.flat[n:]:
        spare.remove()
    return figure, list(grid.flat[:n])


def _flatten(ax: Any) -> list[Axes]:
    flat: list[Axes] = []
    for one in ax:
        if isinstance(one, Axes):
            flat.append(one)
        elif isinstance(one, str) or not hasattr(one, "__iter__"):
            raise InputError(f"ax holds a {type(one).__name__}; give matplotlib Axes")
        else:
            flat.extend(_flatten(one))
    return flat


def finish(figure: Figure, *, save: str | Path | None, show: bool | None, own: bool) -> None:
    """Save and show a figure.

    `show` None displays a new figure inside a notebook, unless it was saved, and does nothing elsewhere; figures that came in through
    ``ax`` are the caller's to show.
    """
    if save is not None:
        folder = Path(save).expanduser().resolve().parent
        if not folder.is_dir():
            raise InputError(f"save={str(save)!r}: the folder {str(folder)!r} does not exist; create it first")
        figure.savefig(Path(save).expanduser(), dpi=SAVE_DPI, bbox_inches="tight", facecolor="white")
    if show:
        import matplotlib.pyplot as plt

        plt.show()
    elif show is None and own and save is None:
        _display_in_notebook(figure)


def _display_in_notebook(figure: Figure) -> None:
    """Show `figure` under a Jupyter kernel: pyplot does not know it, so the inline backend would not."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return
    from IPython.display import Image, display

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * figure.dpi, bbox_inches="tight", facecolor="white")
    display(Image(buffer.getvalue(), retina=True))
