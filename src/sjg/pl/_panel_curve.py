"""What a smaller panel of genes would cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import MaxNLocator

from sjg.core import InputError
from sjg.pl._figure import finish, panels, tidy_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_IN = (3.4, 2.7)
_COLORS = {"importance": "#b5367a", "abundance": "#2b6cb0", "random": "#808080"}
_COLUMNS = ("order", "n_genes", "repeat", "metric", "value")
#: drawn where the frame has them and nothing was chosen
_MAIN = ("mean_iou", "f1_at_iou_0.75", "transcript_accuracy_posterior", "cell_type_accuracy")


def panel_curve(
    curve: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw the quality of the segmentation against the number of genes.

    Parameters
    ----------
    curve
        Result of :func:`sjg.tl.panel_curve`, or several concatenated (give their repeats different numbers).
    metrics
        Metrics to draw, one panel each; default: the main ones that were measured.
    ax
        Axes to draw into, one per metric; default: a new figure.
    save
        File to write the figure to.
    show
        True opens a window; None shows a new figure in notebooks; False never shows.

    Returns
    -------
    The figure: a line through the means for each way to choose genes, a band from the lowest to the highest repeat.

    Raises
    ------
    InputError
        The frame is not such a result, or a metric is not in it.

    Examples
    --------
    >>> import pandas as pd, sjg
    >>> curve = pd.DataFrame({"order": "importance", "n_genes": [10, 50], "repeat": 0, "metric": "mean_iou", "value": [0.5, 0.7]})
    >>> figure = sjg.pl.panel_curve(curve, show=False)
    >>> figure.axes[0].get_ylabel()
    'mean IoU'
    """
    missing = [name for name in _COLUMNS if name not in curve]
    if missing:
        raise InputError(f"curve has no column {', '.join(missing)}; give the result of sjg.tl.panel_curve.")
    measured = list(dict.fromkeys(curve["metric"]))
    chosen = [name for name in _MAIN if name in measured] or measured[:4] if metrics is None else list(metrics)
    unknown = [name for name in chosen if name not in measured]
    if unknown or not chosen:
        raise InputError(f"metrics={unknown} are not in the curve; it has {', '.join(measured) or 'no rows'}.")
    figure, axes = panels(len(chosen), ax=ax, size_in=_PANEL_IN, show=show)
    for panel, name in zip(axes, chosen, strict=True):
        _draw(panel, curve[curve["metric"] == name], name)
    axes[0].legend(title="genes chosen by", frameon=False, fontsize=7, title_fontsize=7)
    finish(figure, save=save, show=show, own=ax is None)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame, name: str) -> None:
    for order in dict.fromkeys(rows["order"]):
        values = rows[rows["order"] == order].groupby("n_genes")["value"].agg(["mean", "min", "max"])
        color = _COLORS.get(str(order), "#404040")
        panel.plot(values.index, values["mean"], color=color, marker="o", markersize=3, linewidth=1.3, label=str(order))
        panel.fill_between(values.index, values["min"], values["max"], color=color, alpha=0.15, linewidth=0)
    panel.set_xlabel("genes in the panel", fontsize=9)
    panel.set_ylabel(name.replace("_", " ").replace("iou", "IoU").replace("f1", "F1"), fontsize=9)
    tidy_axes(panel)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
