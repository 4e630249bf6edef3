"""A reference for cell types, on the genes of the transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from sjg._logging import logger
from sjg.access import class_means
from sjg.core import InputError, MissingElementError

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: fewer shared genes tell no types apart
_MIN_SHARED_GENES = 5
#: rows of an AnnData without a column of types are class means up to this number, cells beyond it
_MAX_CLASSES = 500


def resolve_reference(
    reference: AnnData | pd.DataFrame | str, sdata: SpatialData | None, gene_names: Sequence[str], cell_type_key: str = "cell_type"
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names and mean counts of the classes, genes in the order of the transcripts.

    Parameters
    ----------
    reference
        AnnData of cells with ``obs[cell_type_key]`` (raw counts in ``layers["counts"]``, else in ``X``), AnnData of class means
        (``obs_names`` = types), DataFrame genes x classes, or the key of a table of `sdata`.
    sdata
        Where a key is looked up.
    gene_names
        The G genes of the transcripts.
    cell_type_key
        Column of the types of reference cells; cells without a type are left out.

    Returns
    -------
    names
        The K classes that express any of the genes.
    profiles
        (K, G) mean counts. A gene that the reference lacks has the same share in every class: what the classes show of it, the tissue must
        tell (:func:`sjg.expression.fit_profiles`).

    Raises
    ------
    MissingElementError
        There is no such table.
    InputError
        Fewer than 5 genes are shared, names repeat, a mean is negative, missing or infinite, or cells come without their types.
    """
    where = "reference"
    if isinstance(reference, str):
        if sdata is None or reference not in sdata.tables:
            tables = sorted(sdata.tables) if sdata is not None else []
            raise MissingElementError(
                f"reference={reference!r} names no table of the object; there are: {tables or 'none'}. Pass a table's key or the "
                "reference itself (AnnData or DataFrame)."
            )
        where, reference = f"tables[{reference!r}]", sdata.tables[reference]
    if isinstance(reference, AnnData):
        reference = _of_anndata(reference, cell_type_key, where)
    means, types, genes = class_means(reference)
    column = pd.Index(genes).get_indexer(pd.Index([str(name) for name in gene_names]))
    shared = column >= 0
    if shared.sum() < _MIN_SHARED_GENES:
        raise InputError(_few_genes(where, genes, types, [str(name) for name in gene_names], int(shared.sum())))
    found = means[:, column[shared]]
    expressing = found.sum(axis=1) > 0
    if not expressing.any():
        raise InputError(
            f"{where} has no counts in the {int(shared.sum())} genes that it shares with the transcripts; use another reference."
        )
    if not expressing.all():
        silent = [name for name, heard in zip(types, expressing, strict=True) if not heard]
        logger.warning("%s: %d classes express none of the genes and are left out: %s", where, len(silent), ", ".join(silent[:5]))
    profiles = np.empty((int(expressing.sum()), len(gene_names)))
    profiles[:, shared] = found[expressing]
    profiles[:, ~shared] = found[expressing].mean(axis=1, keepdims=True)
    if not shared.all():
        logger.info(
            "%s lacks %d of %d genes of the transcripts; what they say about types is learned from the tissue",
            where,
            int((~shared).sum()),
            len(gene_names),
        )
    return tuple(name for name, heard in zip(types, expressing, strict=True) if heard), profiles


def _of_anndata(reference: AnnData, cell_type_key: str, where: str) -> AnnData | pd.DataFrame:
    if cell_type_key in reference.obs:
        return _means_of_cells(reference, cell_type_key, where)
    if reference.n_obs > _MAX_CLASSES:
        columns = ", ".join(map(str, reference.obs.columns)) or "none"
        raise InputError(
            f"{where} has {reference.n_obs} rows and no column obs[{cell_type_key!r}]: these are cells, not class means. Name the column of "
            f"their types with cell_type_key=; there are: {columns}."
        )
    return reference


def _means_of_cells(reference: AnnData, key: str, where: str) -> pd.DataFrame:
    """Genes x classes mean counts."""
    layer = reference.layers.get("counts", reference.X)
    values = csr_array(layer if issparse(layer) else np.asarray(layer, dtype=np.float64))
    if values.data.size and (not np.isfinite(values.data).all() or values.data.min() < 0):
        raise InputError(f"{where} holds negative, missing or infinite counts; pass raw counts (undo log and scaling).")
    types = reference.obs[key].astype("category").cat.remove_unused_categories()
    code = types.cat.codes.to_numpy()
    known = np.flatnonzero(code >= 0)
    if known.size == 0:
        raise InputError(f"{where}.obs[{key!r}] names no type; fill the column, or name another with cell_type_key=.")
    n_cells = np.bincount(code[known])
    member = csr_array((1 / n_cells[code[known]], (code[known], known)), shape=(len(n_cells), reference.n_obs))
    means = (member @ values).toarray()
    return pd.DataFrame(means.T, index=reference.var_names.astype(str), columns=types.cat.categories.astype(str))


def _few_genes(where: str, genes: Sequence[str], types: Sequence[str], gene_names: Sequence[str], n_shared: int) -> str:
    message = (
        f"{where} and the transcripts share {n_shared} genes, at least {_MIN_SHARED_GENES} are needed: the {len(genes)} genes of the reference "
        f"are e.g. {', '.join(genes[:5])}; the {len(gene_names)} of the transcripts e.g. {', '.join(gene_names[:5])}. "
    )
    if len(set(types) & set(gene_names)) >= _MIN_SHARED_GENES:
        return message + "The genes are on the other side: transpose it (genes are the rows of a DataFrame, the columns of an AnnData)."
    lower = {name.lower() for name in genes}
    if sum(name.lower() in lower for name in gene_names) >= _MIN_SHARED_GENES:
        return message + "They differ in upper and lower case only: rename one side, and check that the species is the same."
    return message + "Use the same kind of names on both sides (symbols or Ensembl ids)."
