"""Colours of categories, the same from plot to plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.colors import is_color_like, to_hex

from sjg.core.colors import distinct_colors

if TYPE_CHECKING:
    from anndata import AnnData


def type_colors(categories: Sequence[str], tables: Sequence[AnnData] = (), *, column: str = "cell_type") -> dict[str, str]:
    """A colour per category.

    A colour stored in ``uns["<column>_colors"]`` of one of `tables` wins (scanpy's convention: one per category, in their order);
    the first table that has one for a name counts. The others get colours of the palette that are far from these. Nothing is written.
    """
    stored: dict[str, str] = {}
    for table in tables:
        for name, color in stored_colors(table, column).items():
            stored.setdefault(name, color)
    known = {name: stored[name] for name in categories if name in stored}
    free = iter(distinct_colors(len(categories) - len(known), avoid=tuple(known.values())))
    return {name: known[name] if name in known else next(free) for name in categories}


def stored_colors(table: AnnData, column: str) -> Mapping[str, str]:
    """The colours that a table carries for a categorical column; empty where there are none or they do not fit."""
    colors = table.uns.get(f"{column}_colors")
    if colors is None or column not in table.obs or not hasattr(table.obs[column], "cat"):
        return {}
    names = [str(name) for name in table.obs[column].cat.categories]
    if isinstance(colors, Mapping):
        return {str(name): to_hex(color) for name, color in colors.items() if is_color_like(color)}
    if len(colors) < len(names):
        return {}
    return {name: to_hex(str(color)) for name, color in zip(names, colors, strict=False) if is_color_like(str(color))}
