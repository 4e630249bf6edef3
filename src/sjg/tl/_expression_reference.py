"""What a reference says about the genes of each type, for the truth-free metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_array, issparse

from sjg.access._class_means import class_means
from sjg.core import InputError, MissingElementError
from sjg.metrics import exclusive_pairs, expressing_fraction, negative_markers, poisson_expressing_fraction
from sjg.pp._typing import TypingParameters, type_nuclei

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

#: steps in which the totals of the cells of a type are taken
_N_QUANTILES = 32
#: rounds in which the efficiencies of genes settle
_N_ROUNDS = 10


@dataclass(frozen=True)
class ExpressionReference:
    """Types by genes.

    Parameters
    ----------
    types
        The K types.
    genes
        The G genes.
    means
        (K, G) mean counts.
    observed
        (K, G) share of the reference cells of each type that express each gene, NaN for a type with too few; None where only the
        means are known.
    """

    types: tuple[str, ...]
    genes: tuple[str, ...]
    means: NDArray[np.float64]
    observed: NDArray[np.float64] | None = None

    def on_genes(self, names: Sequence[str]) -> tuple[NDArray[np.intp], ExpressionReference]:
        """Positions in `names` of the shared genes, and the reference on these alone.

        Raises
        ------
        InputError
            Fewer than two genes are shared.
        """
        column = pd.Index(self.genes).get_indexer(pd.Index(names))
        shared = np.flatnonzero(column >= 0)
        if len(shared) < 2:
            raise InputError(
                f"reference and transcripts share {len(shared)} genes: the reference has e.g. {list(self.genes[:3])}, the transcripts "
                f"{list(names[:3])}; make the names the same, or turn the reference (genes are rows of a DataFrame, columns of an AnnData)."
            )
        kept = column[shared]
        observed = None if self.observed is None else self.observed[:, kept]
        return shared, ExpressionReference(self.types, tuple(self.genes[i] for i in kept.tolist()), self.means[:, kept], observed)

    @property
    def negative(self) -> NDArray[np.bool_] | None:
        """(K, G) negative markers by the means; None where the share of cells tells them."""
        return negative_markers(self.means) if self.observed is None else None

    def exclusive_pairs(self) -> NDArray[np.intp]:
        """(P, 2) genes that exclude each other; they depend on the reference alone, so that segmentations can be compared."""
        expressing = poisson_expressing_fraction(self.means) if self.observed is None else self.observed
        return exclusive_pairs(expressing, negative=self.negative)

    def expressing(self, counts: csr_matrix, code: NDArray[np.integer]) -> NDArray[np.float64]:
        """(K, G) share of pure cells of each type that express each gene.

        From class means, that of cells with as many transcripts as those in `counts` (n, G) of type `code` (n,) have, with each gene
        as efficient as the counts say: single cells in suspension and in situ differ in both.
        """
        if self.observed is not None:
            return self.observed
        total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
        of_type = np.bincount(code[code >= 0], weights=total[code >= 0], minlength=len(self.types))
        profile, seen = self.means, np.asarray(counts[code >= 0].sum(axis=0)).ravel()
        # the totals of types and genes as in the counts, by turns
        for _ in range(_N_ROUNDS):
            profile = profile / np.maximum(profile.sum(axis=1, keepdims=True), np.finfo(float).tiny)
            profile = profile * (seen + 1) / (of_type @ profile + 1)
        steps = (np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES
        totals = np.stack(
            [np.quantile(total[code == k], steps) if (code == k).any() else np.zeros(_N_QUANTILES) for k in range(len(self.types))]
        )
        return poisson_expressing_fraction(profile, n_transcripts=totals)

    def most_likely_type(self, counts: csr_matrix) -> NDArray[np.int64]:
        """(n,) most likely type of each cell given its counts (n, G); -1 for an empty cell.

        By the rule that annotates nuclei, but for its revisions: what types show is the reference's to say, or a judge would follow
        the cells that it judges.
        """
        best = type_nuclei(counts, self.means, parameters=TypingParameters(n_revisions=0)).argmax(axis=1)
        return np.where(np.asarray(counts.sum(axis=1)).ravel() > 0, best, -1).astype(np.int64)


def read_expression_reference(
    reference: str | AnnData | pd.DataFrame, sdata: SpatialData, *, cell_type_key: str = "cell_type"
) -> ExpressionReference:
    """Read a reference in any of the forms that sjg takes.

    Parameters
    ----------
    reference
        AnnData cells x genes with raw counts and ``obs[cell_type_key]``, AnnData types x genes or DataFrame genes x types with mean
        counts, or the key of such a table of `sdata`.
    sdata
        Where a key is looked up.
    cell_type_key
        Column with the type of each reference cell.

    Raises
    ------
    MissingElementError
        No table of that name.
    InputError
        A form that cannot be read, or values that are no counts.
    """
    if isinstance(reference, str):
        if reference not in sdata.tables:
            raise MissingElementError(f"reference={reference!r} names no table; there are: {sorted(sdata.tables) or 'none'}.")
        reference = sdata.tables[reference]
    if isinstance(reference, AnnData) and cell_type_key in reference.obs:
        cells = reference
        types = pd.Categorical(cells.obs[cell_type_key].astype(object)).remove_unused_categories()
        code = types.codes.astype(np.int64)
        typed = np.flatnonzero(code >= 0)
        n_cells = np.bincount(code[typed], minlength=len(types.categories))
        member = csr_array((1 / n_cells[code[typed]], (code[typed], typed)), shape=(len(n_cells), cells.n_obs))
        mean = member @ cells.X
        frame = pd.DataFrame((mean.toarray() if issparse(mean) else mean).T, index=cells.var_names, columns=types.categories.astype(str))
        means, names, genes = class_means(frame)
        return ExpressionReference(names, genes, means, expressing_fraction(cells.X, code, n_types=len(names)))
    means, names, genes = class_means(reference)
    return ExpressionReference(names, genes, means)
