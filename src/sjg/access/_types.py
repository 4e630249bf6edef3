"""Cell types that the user brings with a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from spatialdata.models import get_table_keys

from sjg.core import AmbiguousElementError, InputError, MissingElementError

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


def annotating_tables(sdata: SpatialData, element_key: str) -> dict[str, AnnData]:
    """The tables that annotate an element, by key."""
    found = {}
    for key, table in sdata.tables.items():
        if "spatialdata_attrs" not in table.uns:
            continue
        region = get_table_keys(table)[0]
        if element_key == region or (not isinstance(region, str) and region is not None and element_key in list(region)):
            found[key] = table
    return found


def read_nuclei_types(
    sdata: SpatialData, nuclei_key: str, cell_type_key: str, source_ids: NDArray[Any], *, table_key: str | None = None
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Types of nuclei from a column of the table that annotates them.

    Parameters
    ----------
    sdata
        The object.
    nuclei_key
        Key of the nuclei (labels or shapes).
    cell_type_key
        Column of ``obs``.
    source_ids
        (n,) ids of the nuclei in their element, as :func:`read_nuclei` returns them.
    table_key
        The table, where several annotate the nuclei with such a column.

    Returns
    -------
    names
        The K types that occur, in the order of the categories (sorted by name where the column is not categorical).
    codes
        (n,) int32 index into `names`; -1 for a nucleus without a row or with a missing type.

    Raises
    ------
    MissingElementError
        No table annotates the nuclei, or `table_key` does not.
    AmbiguousElementError
        Several tables have the column and none was chosen.
    InputError
        No such column, two rows for one nucleus, or no nucleus of the run has a type.
    """
    name, table = _choose_table(sdata, nuclei_key, cell_type_key, table_key)
    _, region_key, instance_key = get_table_keys(table)
    rows = table.obs.loc[(table.obs[region_key] == nuclei_key).to_numpy(), [instance_key, cell_type_key]]
    if rows[instance_key].duplicated().any():
        twice = rows[instance_key][rows[instance_key].duplicated()].tolist()[0]
        raise InputError(f"tables[{name!r}] has several rows for nucleus {twice!r} of {nuclei_key!r}; keep one row for each.")
    column = rows[cell_type_key]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.where(column.isna(), column.astype(str)).astype("category")
    column = column.cat.remove_unused_categories()
    index, wanted = _same_kind(pd.Index(rows[instance_key]), np.asarray(source_ids))
    at = index.get_indexer(wanted)
    codes = np.where(at >= 0, column.cat.codes.to_numpy()[at] if len(column) else -1, -1).astype(np.int32)
    if not (codes >= 0).any():
        raise InputError(
            f"No nucleus of {nuclei_key!r} has a type in tables[{name!r}].obs[{cell_type_key!r}]: its {instance_key!r} are like "
            f"{rows[instance_key].head(3).tolist()}, the nuclei are like {np.asarray(source_ids)[:3].tolist()}; make them the same ids."
        )
    used = np.unique(codes[codes >= 0])
    rank = np.full(len(column.cat.categories) + 1, -1, dtype=np.int32)
    rank[used] = np.arange(used.size)
    return tuple(str(column.cat.categories[code]) for code in used), rank[codes]


def _choose_table(sdata: SpatialData, nuclei_key: str, cell_type_key: str, table_key: str | None) -> tuple[str, AnnData]:
    tables = annotating_tables(sdata, nuclei_key)
    if not tables:
        raise MissingElementError(
            f"cell_type_key={cell_type_key!r}: no table annotates {nuclei_key!r} (tables: {sorted(sdata.tables) or 'none'}); make one with "
            f"sjg.pp.annotate_nuclei, or let one of yours annotate it: sdata.set_table_annotates_spatialelement(table_name, region={nuclei_key!r})."
        )
    if table_key is not None:
        if table_key not in tables:
            raise MissingElementError(f"table_key={table_key!r} names no table that annotates {nuclei_key!r}; there are: {sorted(tables)}.")
        tables = {table_key: tables[table_key]}
    with_column = {key: table for key, table in tables.items() if cell_type_key in table.obs}
    if not with_column:
        columns = {key: list(map(str, table.obs.columns)) for key, table in tables.items()}
        raise InputError(f"cell_type_key={cell_type_key!r} is no column of a table that annotates {nuclei_key!r}; there are: {columns}.")
    if len(with_column) > 1:
        raise AmbiguousElementError(
            f"Several tables that annotate {nuclei_key!r} have a column {cell_type_key!r}: {sorted(with_column)}; keep one, or pass its key."
        )
    return next(iter(with_column.items()))


def _same_kind(index: pd.Index, wanted: NDArray[Any]) -> tuple[pd.Index, pd.Index]:
    """Both as integers, or both as text: a store may turn one into the other."""
    other = pd.Index(wanted)
    if pd.api.types.is_integer_dtype(index.dtype) and pd.api.types.is_integer_dtype(other.dtype):
        return index.astype(np.int64), other.astype(np.int64)
    return index.astype(str), other.astype(str)
