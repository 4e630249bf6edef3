"""A colour per cell, and the entries of the legend that explain it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, is_color_like, to_rgb
from numpy.typing import NDArray

from sjg.core import InputError, MissingElementError
from sjg.core.colors import OTHER_COLOR, distinct_colors
from sjg.pl._elements import Annotation, annotation_of
from sjg.pl._palette import type_colors

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: cells without a table cycle through this many colours
_CYCLE = 24


@dataclass(frozen=True)
class Colouring:
    """How the cells of one labels element are coloured.

    Parameters
    ----------
    ids
        (n,) label ids, ascending.
    rgb
        (n, 3) colours in [0, 1].
    legend
        Text and colour of each entry.
    title
        Title of the legend or the colour bar.
    mappable
        For a colour bar, where the values are numbers.
    """

    ids: NDArray[np.int64]
    rgb: NDArray[np.float32]
    legend: tuple[tuple[str, str], ...] = ()
    title: str = ""
    mappable: ScalarMappable | None = field(default=None)


def colour_cells(
    sdata: SpatialData,
    key: str,
    ids: NDArray[np.int64],
    *,
    color: str | None,
    palette: Mapping[str, str] | None,
    max_types: int | None,
    cmap: str,
) -> Colouring:
    """Colours of the cells `ids` of ``labels[key]`` by a column of its table, a gene, one colour, or (None, or no table) a cycle of colours."""
    annotation = annotation_of(sdata, key)
    if color is None or (annotation is None and color == "cell_type"):
        cycle = np.array([to_rgb(one) for one in distinct_colors(_CYCLE)], dtype=np.float32)
        return Colouring(ids, cycle[ids % _CYCLE] if len(ids) else np.zeros((0, 3), np.float32))
    known = annotation is not None and (color in annotation.obs or color in annotation.table.var_names)
    if is_color_like(color) and not known:
        return Colouring(ids, np.tile(np.array(to_rgb(color), dtype=np.float32), (len(ids), 1)))
    if annotation is None:
        raise MissingElementError(f"color={color!r} needs a table that annotates labels[{key!r}], and there is none; use color=None")
    values = _column(annotation, color)
    if _is_numeric(values):
        return _by_number(ids, annotation.instances, values.to_numpy(dtype=np.float64), color, cmap)
    # a type keeps its colour from one table to the next
    colors = type_colors(_categories(values), [annotation.table, *sdata.tables.values()], column=color)
    return _by_category(ids, annotation, values, color=color, colors=colors | dict(palette or {}), max_types=max_types)


def shared_categories(sdata: SpatialData, keys: Sequence[str], color: str | None) -> dict[str, str]:
    """Colour of each category of `color` over the tables of several labels elements, in order of appearance; empty for numbers."""
    names: dict[str, None] = {}
    tables = []
    for key in keys:
        annotation = annotation_of(sdata, key)
        if color is not None and annotation is not None and color in annotation.obs and not _is_numeric(annotation.obs[color]):
            tables.append(annotation.table)
            names.update(dict.fromkeys(_categories(annotation.obs[color])))
    return type_colors(list(names), [*tables, *sdata.tables.values()], column=color or "")


def category_counts(sdata: SpatialData, key: str, ids: NDArray[np.int64], color: str) -> Mapping[str, int]:
    """Number of the cells `ids` in each category; empty where no table tells."""
    annotation = annotation_of(sdata, key)
    if annotation is None or color not in annotation.obs:
        return {}
    seen = np.isin(annotation.instances, ids)
    return {str(name): int(n) for name, n in annotation.obs.loc[seen, color].value_counts().items()}


def other_types(n: int) -> tuple[str, str]:
    """Legend entry of the `n` types without a colour of their own."""
    return f"{n} other type{'s' if n > 1 else ''}", OTHER_COLOR


def with_unit(column: str) -> str:
    """Name of a column as an axis label.

    Examples
    --------
    >>> with_unit("area_um2"), with_unit("n_transcripts")
    ('area (µm²)', 'n transcripts')
    """
    name, _, unit = column.rpartition("_")
    text = {"um": "µm", "um2": "µm²", "px": "px", "px2": "px²"}.get(unit)
    return column.replace("_", " ") if not name or text is None else f"{name.replace('_', ' ')} ({text})"


def _is_numeric(values: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _column(annotation: Annotation, color: str) -> pd.Series[Any]:
    if color in annotation.obs:
        return annotation.obs[color]
    table = annotation.table
    if color in table.var_names:
        column = table[annotation.rows, color].X
        dense = column.toarray() if hasattr(column, "toarray") else np.asarray(column)
        return pd.Series(dense.ravel(), index=annotation.obs.index)
    raise MissingElementError(
        f"color={color!r} is neither a column of tables[{annotation.key!r}].obs nor one of its {table.n_vars} genes; "
        f"columns: {sorted(annotation.obs.columns)}"
    )


def _categories(values: pd.Series[Any]) -> list[str]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return [str(name) for name in values.cat.categories]
    return sorted({str(value) for value in values.dropna()})


def _by_category(
    ids: NDArray[np.int64],
    annotation: Annotation,
    values: pd.Series[Any],
    *,
    color: str,
    colors: Mapping[str, str],
    max_types: int | None,
) -> Colouring:
    names = _categories(values)
    code_of = {name: i for i, name in enumerate(names)}
    codes = np.array([-1 if missing else code_of[str(value)] for value, missing in zip(values, values.isna(), strict=True)], dtype=np.int64)
    seen = _lookup(ids, annotation.instances, codes, -1)
    counts = np.bincount(seen[seen >= 0], minlength=len(names))
    ranked = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    shown = ranked if max_types is None or len(ranked) <= max_types else ranked[:max_types]
    shown.sort()
    rgb = np.tile(np.array(to_rgb(OTHER_COLOR), dtype=np.float32), (len(names) + 1, 1))
    for i in shown:
        rgb[i] = to_rgb(colors[names[i]])
    legend = [(names[i], colors[names[i]]) for i in shown]
    if len(ranked) > len(shown):
        legend.append(other_types(len(ranked) - len(shown)))
    if (seen < 0).any():
        legend.append(("unknown", OTHER_COLOR))
    return Colouring(ids, rgb[seen], tuple(legend), color.replace("_", " "))


def _by_number(ids: NDArray[np.int64], instances: NDArray[np.int64], values: NDArray[np.float64], color: str, cmap: str) -> Colouring:
    if cmap not in mpl.colormaps:
        raise InputError(f"cmap={cmap!r} is no matplotlib colour map")
    seen = _lookup(ids, instances, values, np.nan)
    finite = seen[np.isfinite(seen)]
    low, high = (float(finite.min()), float(np.percentile(finite, 99.5))) if len(finite) else (0.0, 1.0)
    if color.endswith("confidence"):
        low, high = 0.0, 1.0
    mappable = ScalarMappable(Normalize(low, high if high > low else low + 1.0), cmap)
    mappable.set_array(finite)
    rgb = np.asarray(mappable.to_rgba(seen))[:, :3].astype(np.float32)
    rgb[~np.isfinite(seen)] = to_rgb(OTHER_COLOR)
    return Colouring(ids, rgb, title=with_unit(color), mappable=mappable)


def _lookup(ids: NDArray[np.int64], instances: NDArray[np.int64], values: NDArray[Any], missing: float) -> NDArray[Any]:
    """Value of each id; `missing` for ids without a row."""
    out = np.full(len(ids), missing, dtype=values.dtype)
    if len(instances) == 0:
        return out
    order = np.argsort(instances)
    at = np.minimum(np.searchsorted(instances[order], ids), len(instances) - 1)
    hit = instances[order][at] == ids
    out[hit] = values[order][at[hit]]
    return out
