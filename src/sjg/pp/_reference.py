"""A reference for cell types, on the genes of the transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from sjg.access import class_means
from sjg.core import InputError, MissingElementError

if TYPE_CHECKING:
    from spatialdata import SpatialData

_MIN_SHARED = 5


def resolve_reference(
    reference: AnnData | pd.DataFrame | str, sdata: SpatialData | None, gene_names: Sequence[str], cell_type_key: str = "cell_type"
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names and mean counts of the classes, genes in the order of the transcripts.

    Parameters
    ----------
    reference
        AnnData of cells with ``obs[cell_type_key]``, AnnData of class means (``obs_names`` = types), DataFrame genes x classes, or the
        key of a table of `sdata`.
    sdata
        Where a key is looked up.
    gene_names
        (G,) genes of the transcripts.
    cell_type_key
        Column of the types of reference cells.

    Returns
    -------
    The K names and (K, G) means. A gene that the reference lacks has the same share in every class: that of the mean gene.

    Raises
    ------
    MissingElementError
        There is no such table.
    InputError
        Fewer than 5 genes are shared, names repeat, or a mean is negative, missing or infinite.
    """
    where = "reference"
    if isinstance(reference, str):
        if sdata is None or reference not in sdata.tables:
            tables = sorted(sdata.tables) if sdata is not None else []
            raise MissingElementError(
                f"reference={reference!r} is no table of the object; tables: {tables}. Pass a table's key or the reference itself."
            )
        where, reference = f"tables[{reference!r}]", sdata.tables[reference]
    if isinstance(reference, AnnData) and cell_type_key in reference.obs:
        reference = _means_of_cells(reference, cell_type_key, where)
    means, types, genes = class_means(reference)
    column = pd.Index(genes).get_indexer(pd.Index([str(g) for g in gene_names]))
    shared = column >= 0
    if shared.sum() < min(_MIN_SHARED, len(gene_names)):
        raise InputError(
            f"{where} and the transcripts share {int(shared.sum())} genes, at least {_MIN_SHARED} are needed: the reference has e.g. "
            f"{', '.join(genes[:5])}; the transcripts have e.g. {', '.join(map(str, list(gene_names)[:5]))}. Use the same gene names on both "
            "sides (symbols or Ensembl ids); genes are the columns of an AnnData and the rows of a DataFrame."
        )
    out = np.empty((len(types), len(gene_names)))
    out[:, shared] = means[:, column[shared]]
    # A gene without a reference tells nothing about the type.
    out[:, ~shared] = out[:, shared].mean(1, keepdims=True)
    empty = out[:, shared].sum(1) == 0
    # A class without any of these genes looks like the average tissue.
    out[empty] = out[~empty].mean(0)
    return types, out


def _means_of_cells(reference: AnnData, key: str, where: str) -> pd.DataFrame:
    """Genes x classes mean counts."""
    values = csr_array(reference.X) if issparse(reference.X) else csr_array(np.asarray(reference.X, dtype=float))
    if len(values.data) and (not np.isfinite(values.data).all() or values.data.min() < 0):
        raise InputError(f"{where} holds negative, missing or infinite counts; pass raw counts (undo log and scaling).")
    kind = reference.obs[key].astype("category").cat.remove_unused_categories()
    code = kind.cat.codes.to_numpy()
    known = code >= 0
    if not known.any():
        raise InputError(f"{where}.obs[{key!r}] names no type; fill the column.")
    totals = np.asarray(values.sum(1)).ravel()
    weight = np.where(known & (totals > 0), 1.0, 0.0)
    n = len(kind.cat.categories)
    pick = csr_array((weight[known], (code[known], np.flatnonzero(known))), shape=(n, reference.n_obs))
    sums = (pick @ values).toarray()
    count = np.maximum(np.asarray(pick.sum(1)).ravel(), 1.0)
    return pd.DataFrame((sums / count[:, None]).T, index=reference.var_names.astype(str), columns=kind.cat.categories.astype(str))
