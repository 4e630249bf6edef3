"""Class means as the user has them: a DataFrame genes x types or an AnnData types x genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from sjg.core import InputError

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame


def class_means(reference: AnnData | DataFrame) -> tuple[NDArray[np.float64], tuple[str, ...], tuple[str, ...]]:
    """Means (types, genes), names of the types, names of the genes.

    Parameters
    ----------
    reference
        DataFrame with genes as rows and types as columns, or AnnData with types as ``obs_names`` and genes as ``var_names``.

    Raises
    ------
    InputError
        If it is neither, if names repeat, or if a mean is negative, missing or infinite.
    """
    from anndata import AnnData
    from pandas import DataFrame

    if isinstance(reference, AnnData):
        values = reference.X.toarray() if issparse(reference.X) else np.asarray(reference.X)
        types, genes = list(map(str, reference.obs_names)), list(map(str, reference.var_names))
    elif isinstance(reference, DataFrame):
        if reference.select_dtypes("number").shape != reference.shape:
            raise InputError("reference must hold numbers only: make the gene names its index (`reference.set_index(...)`).")
        values = reference.to_numpy(np.float64, na_value=np.nan).T
        types, genes = list(map(str, reference.columns)), list(map(str, reference.index))
    else:
        raise InputError(f"reference must be a DataFrame (genes x types) or an AnnData (types x genes), got {type(reference).__name__}.")
    for kind, names in (("type", types), ("gene", genes)):
        repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if repeated:
            raise InputError(f"reference names the {kind} {', '.join(repeated[:5])} more than once: merge or rename the duplicates.")
    means = np.asarray(values, dtype=np.float64)
    if not np.isfinite(means).all() or (means < 0).any():
        raise InputError("reference must hold finite mean counts of 0 or more; undo any log or scaling, fill or drop missing values.")
    if not (means.sum(axis=1) > 0).any():
        raise InputError("reference holds no counts at all: every class mean is 0.")
    return means, tuple(types), tuple(genes)
