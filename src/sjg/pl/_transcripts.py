"""Transcripts drawn as dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgba

from sjg._logging import logger
from sjg.core import InputError, MissingElementError
from sjg.core.colors import distinct_colors
from sjg.pl._elements import assigned_column
from sjg.pl._legend import dot_entry
from sjg.pl._view import View, points_in_view

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

#: more dots than this hide each other and make vector files huge
_MAX_DOTS = 200_000
_ASSIGNED_COLOR = "#f5f5f5"
_UNASSIGNED_COLOR = "#ff5c5c"
#: the few that no cell got are looked for, so their dots have a multiple of the area of the others where these are specks
_UNASSIGNED_AREA = 2.5
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")


def draw_transcripts(
    ax: Axes,
    sdata: SpatialData,
    points_key: str,
    view: View,
    *,
    labels_key: str,
    genes: Sequence[str] | None,
    width_in: float,
) -> list[Artist]:
    """Dots for the transcripts in the window: one colour per gene where `genes` are named, else assigned or not; returns legend entries."""
    points = sdata.points[points_key]
    if genes is not None:
        column = points.attrs.get("spatialdata_attrs", {}).get("feature_key")
        if column is None:
            raise InputError(
                f"points[{points_key!r}] names no feature_key, so genes cannot be looked up; parse it with PointsModel.parse(..., feature_key=...)"
            )
        rows = points_in_view(sdata, points_key, view, [column])
        names = rows[column].astype(str)
        _check_genes(points, points_key, column, genes, names)
        colors = distinct_colors(len(genes))
        groups = [(gene, rows[names == gene], colors[i], _MARKERS[i % len(_MARKERS)]) for i, gene in enumerate(genes)]
    else:
        cell = assigned_column(sdata, points_key, labels_key)
        rows = points_in_view(sdata, points_key, view, [] if cell is None else [cell])
        if cell is None:
            groups = [("transcript", rows, _ASSIGNED_COLOR, "o")]
        else:
            groups = [
                ("transcript in a cell", rows[rows[cell] > 0], _ASSIGNED_COLOR, "o"),
                ("transcript in no cell", rows[rows[cell] == 0], _UNASSIGNED_COLOR, "o"),
            ]
    total = sum(len(group) for _, group, _, _ in groups)
    # area of a dot in pt2, so that all cover a small part of the axes, between a speck and a clear marker
    size = float(np.clip(900.0 * (width_in / 6.0) ** 2 / max(total, 1) ** 0.75, 0.06, 22.0))
    every = -(-total // _MAX_DOTS) if total else 1
    if every > 1:
        logger.info("pl.segmentation draws every %d. of %d transcripts", every, total)
    for _, group, color, marker in groups:
        dots = group.iloc[::every]
        ax.scatter(
            dots["x"],
            dots["y"],
            s=max(size, min(_UNASSIGNED_AREA * size, 4.0)) if color == _UNASSIGNED_COLOR else size,
            color=[to_rgba(color)],
            marker=marker,
            linewidths=0.25 if size > 4 else 0.0,
            edgecolors="black" if size > 4 else "none",
            rasterized=total > 5_000,
            zorder=3,
        )
    return [dot_entry(text, color, marker) for text, _, color, marker in groups]


def _check_genes(points: object, points_key: str, column: str, genes: Sequence[str], seen: pd.Series[str]) -> None:
    """Genes may be absent from the window, but not from the panel."""
    if isinstance(genes, str):
        raise InputError(f"genes={genes!r}: give a list of genes")
    absent = sorted(set(genes) - set(seen.unique()))
    if not absent:
        return
    panel = points[column]  # type: ignore[index]
    if hasattr(panel, "cat") and panel.cat.known:
        every = {str(name) for name in panel.cat.categories}
    else:
        every = {str(name) for name in panel.unique().compute()}
    unknown = [gene for gene in absent if gene not in every]
    if unknown:
        some = ", ".join(sorted(every)[:8])
        raise MissingElementError(
            f"genes {unknown} are not in column {column!r} of points[{points_key!r}]; it has {len(every)} genes, such as {some}"
        )
