"""Distributions that show at a glance whether a segmentation is sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sjg.core import MissingElementError
from sjg.core.colors import OTHER_COLOR
from sjg.pl._elements import table as get_table
from sjg.pl._figure import finish, panels, tidy_axes
from sjg.pl._palette import type_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

_BAR_COLOR = "#4a7fb5"
_MAX_BARS = 15


def quality(
    sdata: SpatialData,
    table_key: str = "sjg_table",
    *,
    ax: Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw four distributions over the cells: transcripts, area, confidence of the type, cells per type.

    Parameters
    ----------
    sdata
        Object on which :func:`sjg.tl.segment` has run.
    table_key
        Its table, with ``obs`` columns ``n_transcripts``, ``area_um2`` (or ``area_px2``), ``cell_type_confidence`` and ``cell_type``;
        a column that is not there leaves its panel out.
    ax
        Axes to draw into, one per panel; default: a new figure.
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
        If the table or all of the columns are missing.

    Examples
    --------
    >>> import numpy as np, pandas as pd, sjg
    >>> from anndata import AnnData
    >>> from spatialdata import SpatialData
    >>> obs = pd.DataFrame({"n_transcripts": [3, 40, 55]}, index=["1", "2", "3"])
    >>> table = AnnData(np.ones((3, 1), dtype=np.float32), obs=obs)
    >>> len(sjg.pl.quality(SpatialData(tables={"sjg_table": table}), show=False).axes)
    1
    """
    table = get_table(sdata, table_key)
    area = "area_um2" if "area_um2" in table.obs else "area_px2"
    wanted = {
        "n_transcripts": "transcripts per cell",
        area: "area of a cell (µm²)" if area == "area_um2" else "area of a cell (px²)",
        "cell_type_confidence": "confidence of the cell type",
        "cell_type": "cells",
    }
    present = {column: text for column, text in wanted.items() if column in table.obs}
    if not present:
        raise MissingElementError(f"tables[{table_key!r}].obs has none of {list(wanted)}; columns: {sorted(table.obs.columns)}")
    figure, axes = panels(len(present), ax=ax, size_in=(3.2, 2.6), show=show, max_columns=2)
    for (column, text), panel in zip(present.items(), axes, strict=True):
        if column == "cell_type":
            _bars(panel, table, [table, *sdata.tables.values()])
        else:
            _histogram(panel, table.obs[column].to_numpy(dtype=float), limits=(0.0, 1.0) if column == "cell_type_confidence" else None)
        panel.set_xlabel(text, fontsize=9)
        tidy_axes(panel, label_size=7 if column == "cell_type" else 8)
    finish(figure, save=save, show=show, own=ax is None)
    return figure


def _histogram(panel: Axes, values: np.ndarray[Any, Any], limits: tuple[float, float] | None) -> None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        panel.text(0.5, 0.5, "no values", transform=panel.transAxes, ha="center", fontsize=8)
        return
    low, high = limits or (0.0, max(float(np.percentile(finite, 99.5)), 1e-9))
    # the few cells beyond the axis are kept in the last bar, so that the bars count every cell
    edges = np.linspace(low, high, 31)
    if limits is None and np.array_equal(finite, np.round(finite)):
        # whole numbers in bars of a whole width, else some bars would hold more numbers than others
        width = max(1, int(np.ceil((high - low) / 30)))
        edges = np.arange(low - 0.5, high + width, width)
    panel.hist(np.clip(finite, edges[0], edges[-1]), bins=edges.tolist(), color=_BAR_COLOR)
    if limits is None:
        middle = float(np.median(finite))
        panel.axvline(middle, color="#303030", linewidth=1.0, linestyle="--")
        text = f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}"
        panel.text(middle, 1.0, f" median {text}", transform=panel.get_xaxis_transform(), fontsize=7, va="top")
    panel.set_ylabel("cells", fontsize=9)


def _bars(panel: Axes, table: AnnData, palettes: list[AnnData]) -> None:
    column = table.obs["cell_type"].astype("category")
    names = [str(name) for name in column.cat.categories]
    colors = type_colors(names, palettes)
    counts = column.astype(str).value_counts()
    shown = [name for name in counts.index if name in colors][:_MAX_BARS]
    texts, sizes, tints = list(shown), [int(counts[name]) for name in shown], [colors[name] for name in shown]
    rest = int(counts.sum()) - sum(sizes)
    if rest:
        texts.append("others")
        sizes.append(rest)
        tints.append(OTHER_COLOR)
    panel.barh(range(len(texts)), sizes, color=tints)
    panel.set_yticks(range(len(texts)), texts)
    panel.invert_yaxis()
