"""Several segmentations of the same window side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sjg.core import InputError
from sjg.core.colors import NUCLEI_COLOR, OTHER_COLOR, TRUTH_COLOR
from sjg.pl._colouring import category_counts, other_types, shared_categories
from sjg.pl._elements import annotation_of, check_labels, run_record
from sjg.pl._figure import finish, new_figure, panels
from sjg.pl._legend import add_legend, color_entries, outline_entry
from sjg.pl._segmentation import segmentation
from sjg.pl._view import Crop, make_view, sample_labels

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

_PANEL_IN = 4.0
_ROW_IN = 0.24


def comparison(
    sdata: SpatialData,
    labels_keys: Sequence[str] | Mapping[str, str],
    *,
    metrics: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    image_key: str | None = None,
    nuclei_key: str | None = None,
    truth_key: str | None = None,
    color: str | None = "cell_type",
    crop: Crop | None = None,
    coordinate_system: str = "global",
    max_types: int | None = 20,
    pixel_size_um: float | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw several labels of the same window side by side, in the same colours.

    Parameters
    ----------
    sdata
        Object with the labels.
    labels_keys
        Labels elements, or a mapping from title to labels element.
    metrics
        Drawn as a table under the panels: a data frame with one row per metric and one column per labels element, or a mapping from
        labels element to what :func:`sjg.tl.evaluate` returned for it. Not drawn into given `ax`.
    image_key
        Image under the cells, as in :func:`sjg.pl.segmentation`.
    nuclei_key
        Nuclei outlined in every panel, as in :func:`sjg.pl.segmentation`.
    truth_key
        Labels or shapes of the true cells, outlined in every panel.
    color
        Column of the tables that annotate the labels; labels without a table are gray. None for a cycle of colours.
    crop
        Window (x0, x1, y0, y1) in units of the coordinate system; default: the extent of the first labels.
    coordinate_system
        Where the elements are aligned.
    max_types
        At most this many categories get a colour of their own, the most frequent ones over all panels. None for all.
    pixel_size_um
        Side of a full-resolution pixel of the image in micrometres; default: what the runs recorded.
    ax
        Axes to draw into, one per labels element; default: a new figure.
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
        If a key, column or coordinate system does not exist.
    InputError
        If an argument cannot be used.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(60, 60), n_genes=20)
    >>> figure = sjg.pl.comparison(sdata, {"nuclei": "nuclei", "truth": "cells"}, color=None, show=False)
    >>> [panel.get_title() for panel in figure.axes]
    ['nuclei', 'truth']
    """
    if isinstance(labels_keys, str):
        raise InputError(f"labels_keys={labels_keys!r}: give a list of labels elements, or a mapping from title to element")
    titles = dict(labels_keys) if isinstance(labels_keys, Mapping) else {key: key for key in labels_keys}
    if not titles:
        raise InputError("labels_keys is empty; name at least one labels element")
    elements = list(dict.fromkeys(titles.values()))
    for key in elements:
        check_labels(sdata, key)
    # labels that no run made, such as nuclei, are drawn over the image that a run beside them used
    recorded = (run_record(sdata, key).get("image_key") for key in elements)
    image_key = image_key or next((key for key in recorded if key in sdata.images), None)
    view = make_view(sdata, elements[0], crop, coordinate_system, 256)
    rows = None if metrics is None else metrics_frame(metrics, titles)
    colors = shared_categories(sdata, elements, color)
    counts: Counter[str] = Counter()
    if color is not None:
        for key in elements:
            counts.update(category_counts(sdata, key, np.unique(sample_labels(sdata, key, view)), color))
    palette, entries = _palette(colors, counts, max_types)

    aspect = view.shape[0] / view.shape[1]
    height_in = _PANEL_IN * min(max(aspect, 0.3), 1.6)
    if ax is not None or rows is None:
        columns = len(titles) if len(titles) <= 4 else 3
        figure, axes = panels(len(titles), ax=ax, size_in=(_PANEL_IN, height_in + 0.3), show=show, max_columns=columns)
        if ax is None:
            figure.set_figwidth(figure.get_figwidth() + (1.8 if entries else 1.0))
    else:
        figure, axes = _with_table(rows, titles, height_in, show=show)
    for (title, key), panel in zip(titles.items(), axes, strict=True):
        segmentation(
            sdata,
            key,
            image_key=image_key,
            nuclei_key=nuclei_key,
            truth_key=truth_key if key != truth_key else None,
            # ids in the colours of types would be taken for types
            color=OTHER_COLOR if colors and not _has_column(sdata, key, color) else color,
            crop=view.crop,
            coordinate_system=coordinate_system,
            palette=palette,
            max_types=None,
            legend=False,
            scale_bar=panel is axes[-1],
            pixel_size_um=pixel_size_um,
            title=title,
            ax=panel,
            show=False,
        )
    handles: list[Artist] = color_entries(entries)
    if truth_key is not None:
        handles.append(outline_entry("true cell", TRUTH_COLOR))
    if nuclei_key != "" and (nuclei_key is not None or "nuclei" in sdata.labels or "nuclei" in sdata.shapes):
        handles.append(outline_entry("nucleus", NUCLEI_COLOR))
    last_in_first_row = axes[min(len(axes), 4 if len(axes) <= 4 else 3) - 1]
    add_legend(last_in_first_row, handles, (color or "").replace("_", " ") if entries else "", height_in)
    finish(figure, save=save, show=show, own=ax is None)
    return figure


def _has_column(sdata: SpatialData, key: str, color: str | None) -> bool:
    annotation = annotation_of(sdata, key)
    return annotation is not None and color in annotation.obs


def metrics_frame(metrics: pd.DataFrame | Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> pd.DataFrame:
    """Metrics as rows, the panels as columns in their order; titles or labels keys name the columns."""
    if isinstance(metrics, pd.DataFrame):
        wide = metrics.set_index("metric") if "metric" in metrics else metrics
    else:
        columns = {}
        for name, frame in metrics.items():
            if not {"metric", "value"} <= set(frame.columns):
                raise InputError(
                    f"metrics[{name!r}] has the columns {list(frame.columns)}; 'metric' and 'value' are needed, as tl.evaluate returns"
                )
            columns[name] = frame.set_index("metric")["value"]
        wide = pd.DataFrame(columns)
        order = dict.fromkeys(metric for column in columns.values() for metric in column.index)
        wide = wide.reindex(list(order))
    chosen = {}
    for title, key in titles.items():
        name = key if key in wide else title if title in wide else None
        chosen[title] = wide[name] if name is not None else pd.Series(np.nan, index=wide.index)
    if all(column.isna().all() for column in chosen.values()):
        raise InputError(f"metrics has no column for {list(titles.values())}; its columns: {list(wide.columns)}")
    return pd.DataFrame(chosen)


def _palette(
    colors: Mapping[str, str], counts: Mapping[str, int], max_types: int | None
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """One colour per category for all panels, gray beyond the most frequent ones, and the legend."""
    ranked = sorted((name for name in colors if counts.get(name, 0)), key=lambda name: -counts[name])
    shown = set(ranked if max_types is None else ranked[:max_types])
    palette = {name: color if name in shown else OTHER_COLOR for name, color in colors.items()}
    entries = [(name, color) for name, color in colors.items() if name in shown]
    if len(ranked) > len(shown):
        entries.append(other_types(len(ranked) - len(shown)))
    return palette, tuple(entries)


def _with_table(rows: pd.DataFrame, titles: Mapping[str, str], height_in: float, *, show: bool | None) -> tuple[Figure, list[Axes]]:
    """One row of panels with a table of the metrics under them."""
    table_in = _ROW_IN * (len(rows) + 1) + 0.1
    width_in = _PANEL_IN * len(titles) + 1.8
    figure = new_figure((width_in, height_in + table_in + 0.4), show=show)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[height_in + 0.4, table_in]).flat
    axes = list(top.subplots(1, len(titles), squeeze=False).flat)
    below = bottom.subplots()
    below.set_axis_off()
    cells = [[_number(value) for value in row] for row in rows.to_numpy()]
    drawn = below.table(
        cellText=cells,
        rowLabels=[str(name).replace("_", " ") for name in rows.index],
        colLabels=list(rows.columns),
        loc="upper center",
        cellLoc="center",
        bbox=(0.25, 0.0, 0.7, 1.0),
        edges="horizontal",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    return figure, axes


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    if (value == round(value) and abs(value) > 1) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
