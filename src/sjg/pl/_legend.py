"""Legends beside the data, in as many columns as they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

_FONT_PT = 8
#: height of one row of a legend in inches at that size
_ROW_IN = 0.175
#: width of a letter in inches at that size
_LETTER_IN = 0.068


def color_entries(entries: tuple[tuple[str, str], ...]) -> list[Artist]:
    """Filled squares."""
    return [Patch(facecolor=color, edgecolor="none", label=text) for text, color in entries]


def outline_entry(text: str, color: str) -> Artist:
    """A ring as drawn around nuclei or true cells, with a dark rim so that white shows on white paper."""
    ring = Line2D([], [], linestyle="none", marker="o", markersize=6.5, markerfacecolor="#303030", markeredgecolor=color, label=text)
    ring.set_markeredgewidth(1.6)
    ring.set_path_effects([withStroke(linewidth=3.4, foreground="#303030")])
    return ring


def dot_entry(text: str, color: str, marker: str = "o") -> Artist:
    """A transcript."""
    return Line2D(
        [], [], linestyle="none", marker=marker, markersize=4.5, color=color, markeredgecolor="#303030", markeredgewidth=0.4, label=text
    )


def legend_columns(n_entries: int, height_in: float) -> int:
    """Number of columns with which `n_entries` rows fit beside axes of this height."""
    rows = max(4, int(height_in / _ROW_IN) - 2)
    return max(1, -(-n_entries // rows))


def legend_width(handles: list[Artist], height_in: float) -> float:
    """Inches that a legend takes beside axes of this height, about."""
    if not handles:
        return 0.3
    letters = max(len(str(handle.get_label())) for handle in handles)
    return 0.3 + legend_columns(len(handles), height_in) * (0.45 + _LETTER_IN * letters)


def add_legend(ax: Axes, handles: list[Artist], title: str, height_in: float) -> Legend | None:
    """A legend to the right of the axes, outside of the data; None without entries."""
    if not handles:
        return None
    return ax.legend(
        handles=handles,
        title=title or None,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        ncols=legend_columns(len(handles), height_in),
        frameon=False,
        fontsize=_FONT_PT,
        title_fontsize=_FONT_PT + 1,
        alignment="left",
        handlelength=1.1,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.35,
    )
