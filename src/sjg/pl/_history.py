"""How a run went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from sjg.core import InputError, MissingElementError
from sjg.pl._elements import table as get_table
from sjg.pl._figure import finish, panels, tidy_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

_PANEL_IN = (3.6, 2.5)
_LINE_COLOR = "#2b6cb0"
_PHASE_COLORS = ("#f3f4f6", "#e2e8f0")


def history(
    sdata: SpatialData,
    table_key: str = "sjg_table",
    *,
    keys: Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw the training history: loss and fraction of transcripts assigned over the epochs.

    Parameters
    ----------
    sdata
        Object on which :func:`sjg.tl.segment` has run.
    table_key
        Table with ``uns["sjg"]["history"]``.
    keys
        Series to draw, one panel each; default: every loss and every fraction that was recorded.
    ax
        Axes to draw into, one per series; default: a new figure.
    save
        File to write the figure to.
    show
        True opens a window; None shows a new figure in notebooks; False never shows.

    Returns
    -------
    The figure.

    Raises
    ------
    MissingElementError
        If the table, its history or a series does not exist.
    InputError
        If the history holds no series to draw.

    Examples
    --------
    >>> import numpy as np, sjg
    >>> from anndata import AnnData
    >>> from spatialdata import SpatialData
    >>> table = AnnData(np.ones((1, 1), dtype=np.float32))
    >>> table.uns["sjg"] = {"history": {"epoch": [0, 1], "loss": [2.0, 1.0]}}
    >>> figure = sjg.pl.history(SpatialData(tables={"sjg_table": table}), show=False)
    >>> figure.axes[0].get_ylabel()
    'loss'
    """
    records = history_frame(get_table(sdata, table_key).uns, table_key)
    numeric = [name for name in records.select_dtypes("number") if name != "epoch"]
    if keys is None:
        # a store does not keep the order of the series
        chosen = sorted((name for name in numeric if _is_main(name)), key=lambda name: ("loss" not in name, name)) or sorted(numeric)
    else:
        chosen = [keys] if isinstance(keys, str) else list(keys)
        missing = [name for name in chosen if name not in numeric]
        if missing:
            raise MissingElementError(f"the history of tables[{table_key!r}] has no series {missing}; it has {numeric}")
    chosen = [name for name in chosen if records[name].notna().any()]
    if not chosen:
        raise InputError(f"the history of tables[{table_key!r}] holds no numbers to draw; its entries: {list(records)}")
    epochs = records["epoch"].to_numpy(dtype=float) if "epoch" in records else np.arange(len(records), dtype=float)
    figure, axes = panels(len(chosen), ax=ax, size_in=_PANEL_IN, show=show, max_columns=3)
    for name, panel in zip(chosen, axes, strict=True):
        _draw_series(panel, epochs, records, name)
    finish(figure, save=save, show=show, own=ax is None)
    return figure


def history_frame(uns: Mapping[str, Any], table_key: str) -> pd.DataFrame:
    """``uns["sjg"]["history"]`` as a data frame, one row per epoch."""
    recorded = uns.get("sjg", {}).get("history")
    if not isinstance(recorded, Mapping) or not recorded:
        raise MissingElementError(f"tables[{table_key!r}].uns['sjg'] has no history; it is written by sjg.tl.segment")
    lengths = {name: len(np.atleast_1d(values)) for name, values in recorded.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"tables[{table_key!r}].uns['sjg']['history']: the series have different lengths: {lengths}")
    return pd.DataFrame({str(name): np.atleast_1d(values) for name, values in recorded.items()})


def _is_main(name: str) -> bool:
    return "loss" in name or "fraction" in name or "assigned" in name


def _draw_series(panel: Axes, epochs: np.ndarray[Any, Any], records: pd.DataFrame, name: str) -> None:
    values = records[name].to_numpy(dtype=float)
    known = np.isfinite(values)
    if "phase" in records:
        _shade_phases(panel, epochs, records["phase"].astype(str).to_numpy())
    panel.plot(epochs[known], values[known], color=_LINE_COLOR, linewidth=1.4, marker="o" if known.sum() <= 30 else None, markersize=3)
    panel.set_xlabel("epoch", fontsize=9)
    panel.set_ylabel(name.replace("_", " "), fontsize=9)
    tidy_axes(panel)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.margins(y=0.08)
    if "fraction" in name and known.any():
        # a change of a tenth of a percent must not look like a leap
        middle, half = float(np.mean(panel.get_ylim())), max(float(np.ptp(panel.get_ylim())) / 2, 0.025)
        panel.set_ylim(max(middle - half, 0.0), middle + half)


def _shade_phases(panel: Axes, epochs: np.ndarray[Any, Any], phases: np.ndarray[Any, Any]) -> None:
    """A band per run of epochs of the same phase, named at its top."""
    starts = np.flatnonzero(np.r_[True, phases[1:] != phases[:-1]])
    ends = np.r_[starts[1:], len(phases)]
    if len(starts) < 2:
        return
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        left, right = epochs[start] - 0.5, epochs[end - 1] + 0.5
        panel.axvspan(left, right, color=_PHASE_COLORS[number % 2], linewidth=0, zorder=0)
        panel.text(
            (left + right) / 2,
            1.01,
            phases[start],
            transform=panel.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=7,
            color="#606060",
        )
