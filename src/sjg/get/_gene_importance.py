"""Gene importance as a long table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from sjg.core import InputError, MissingElementError

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: entry of ``varm`` that ``tl.segment`` and ``tl.attribute`` write
_VARM_KEY = "gene_importance"


def gene_importance(
    sdata: SpatialData,
    table_key: str = "sjg_table",
    cell_type: str | Sequence[str] | None = None,
    *,
    n: int | None = None,
) -> pd.DataFrame:
    """Importance of each gene for each cell type, most important first.

    Parameters
    ----------
    sdata
        Object on which :func:`sjg.tl.segment` or :func:`sjg.tl.attribute` has run.
    table_key
        Table whose ``varm["gene_importance"]`` (genes x cell types) is read.
    cell_type
        One cell type or several; None for all.
    n
        Only the `n` most important genes of each cell type; None for all.

    Returns
    -------
    Data frame with the columns ``gene``, ``cell_type``, ``importance`` (higher = more informative, comparable within a cell type)
    and ``rank`` (1 = most important in that cell type), ordered by cell type and rank. Genes without a score come last.

    Raises
    ------
    MissingElementError
        If the table, its gene importance or a cell type does not exist.
    InputError
        If `n` is not a positive integer.

    Examples
    --------
    >>> import numpy as np, pandas as pd, sjg
    >>> from anndata import AnnData
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import TableModel
    >>> table = AnnData(np.ones((2, 2), dtype=np.float32), var=pd.DataFrame(index=["Gad1", "Plp1"]))
    >>> table.varm["gene_importance"] = pd.DataFrame({"neuron": [2.0, 0.5]}, index=table.var_names)
    >>> sdata = SpatialData(tables={"sjg_table": TableModel.parse(table)})
    >>> sjg.get.gene_importance(sdata, cell_type="neuron", n=1)
       gene cell_type  importance  rank
    0  Gad1    neuron         2.0     1
    """
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise InputError(f"n={n!r}: give a positive number of genes per cell type, or None for all")
    wide = _wide(sdata, table_key)
    names = list(wide.columns) if cell_type is None else [cell_type] if isinstance(cell_type, str) else list(cell_type)
    missing = [name for name in names if name not in wide.columns]
    if missing:
        raise MissingElementError(
            f"cell types {missing} are not in the gene importance of tables[{table_key!r}]; it has {list(wide.columns)}"
        )
    parts = []
    for name in names:
        ranked = wide[name].sort_values(ascending=False, kind="stable", na_position="last").head(n)
        part = pd.DataFrame({"gene": ranked.index.astype(str), "cell_type": name, "importance": ranked.to_numpy()})
        parts.append(part.assign(rank=range(1, len(ranked) + 1)))
    if not parts:
        return pd.DataFrame({"gene": pd.Series(dtype=object), "cell_type": pd.Series(dtype=object), "importance": 0.0, "rank": 0})
    return pd.concat(parts, ignore_index=True)


def _wide(sdata: SpatialData, table_key: str) -> pd.DataFrame:
    """The genes x cell types matrix of a table."""
    if table_key not in sdata.tables:
        raise MissingElementError(f"tables[{table_key!r}] does not exist; tables: {sorted(sdata.tables)}. Run sjg.tl.segment first")
    table = sdata.tables[table_key]
    if _VARM_KEY not in table.varm:
        raise MissingElementError(
            f"tables[{table_key!r}] has no varm[{_VARM_KEY!r}] (varm: {sorted(table.varm)}); it is written by sjg.tl.segment and sjg.tl.attribute"
        )
    wide = table.varm[_VARM_KEY]
    if not isinstance(wide, pd.DataFrame):
        raise InputError(
            f"tables[{table_key!r}].varm[{_VARM_KEY!r}] is a {type(wide).__name__}; a DataFrame genes x cell types is expected"
        )
    return wide.rename(columns=str)
