"""The profiles of a reference as the assay of the tissue would see them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import softmax

from sjg.core import CellTypes, parts, release
from sjg.expression import as_probabilities, fit_profiles, usual_composition
from sjg.training._nuclei import nearest_candidates
from sjg.training._tissue import Tissue

#: molecules from which efficiencies are found, all and for each gene, and how far from a nucleus, in median radii, they may lie
_SAMPLE, _SAMPLE_BY_GENE, _NEAR_RADII = 500_000, 1_000, 1.5
#: how sure a start type is at the most
_MAX_CONFIDENCE = 0.95
_ROWS = 1 << 13


def calibrated(types: CellTypes, tissue: Tissue) -> CellTypes:
    """The types with profiles fitted to what the tissue shows, as far as it shows it.

    Efficiencies of the genes come from the molecules in and around nuclei, for genes that stay in the nucleus would look as if they
    were seen better; deviations of single types from those in nuclei, for around them there are neighbours.

    Parameters
    ----------
    types
        Start types; returned as they are where they have no profiles or no molecule lies in a nucleus of known type.
    tissue
        Molecules and nuclei.
    """
    if types.profiles is None:
        return types
    gene, n_genes = tissue.molecules.gene, len(tissue.molecules.gene_names)
    total = np.zeros(n_genes)
    for rows in parts(len(gene)):
        total += np.bincount(gene[rows], minlength=n_genes)
        release(gene)
    profiles = as_probabilities(np.asarray(types.profiles, float), total)
    in_nuclei = types.in_nuclei
    if in_nuclei is None:
        in_nuclei = counts_by_type(types, tissue, profiles, total)
    if not in_nuclei.any():
        return types
    around, of_type = np.zeros(n_genes), np.zeros(len(types.names))
    step = max(1, len(gene) // max(_SAMPLE, _SAMPLE_BY_GENE * n_genes))
    for rows in parts(len(gene)):
        taken = np.arange(-(-rows.start // step) * step, rows.stop, step)
        if not len(taken):
            continue
        nearest, signed, _ = nearest_candidates(tissue.nuclei, tissue.molecules.yx_px[taken], 1)
        near = signed[:, 0] < _NEAR_RADII * tissue.radius_px
        around += np.bincount(gene[taken[near]], minlength=n_genes)
        code = types.initial[nearest[near, 0]]
        of_type += np.bincount(code[code >= 0], minlength=len(of_type))
        release(gene, tissue.molecules.yx_px)
    shares = of_type / of_type.sum() if of_type.any() else None
    return replace(types, profiles=fit_profiles(profiles, in_nuclei, around, shares_around=shares).whole)


def counts_by_type(types: CellTypes, tissue: Tissue, profiles: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, G) molecules in the nuclei of each type, by the start types and what the nuclei hold.

    Parameters
    ----------
    types
        Start types; nuclei of unknown type are left out.
    tissue
        Molecules and nuclei.
    profiles
        (K, G) profiles, rows sum to 1.
    total
        (G,) molecules of each gene.
    """
    known, n_types = np.flatnonzero(types.initial >= 0), len(profiles)
    counts = _counts_in_nuclei(tissue)[known]
    onehot = csr_array((np.ones(len(known)), (np.arange(len(known)), types.initial[known])), shape=(len(known), n_types))
    found = np.asarray((onehot.T @ counts).todense(), float)
    if not found.any():
        return found
    # what the efficiencies of the assay make of the profiles, then how well each nucleus fits its type and the others
    log_composition = np.log(usual_composition(fit_profiles(profiles, found).nuclear, total)).T
    confidence = np.clip(np.asarray(types.confidence, float)[known], 1e-3, _MAX_CONFIDENCE)[:, None]
    found = np.zeros_like(found)
    for start in range(0, len(known), _ROWS):
        rows = slice(start, start + _ROWS)
        prior = onehot[rows].toarray() * confidence[rows] + (1 - confidence[rows]) / n_types
        posterior = softmax(counts[rows] @ log_composition + np.log(prior), axis=1)
        found += np.asarray(counts[rows].T @ posterior).T
    return found


def _counts_in_nuclei(tissue: Tissue) -> csr_array:
    """(n, G) molecules in each nucleus."""
    n, n_genes = len(tissue.nuclei), len(tissue.molecules.gene_names)
    pairs, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for rows in parts(len(tissue.nucleus_of)):
        nucleus = tissue.nucleus_of[rows].astype(np.int64)
        pair, number = np.unique(((nucleus - 1) * n_genes + tissue.molecules.gene[rows])[nucleus > 0], return_counts=True)
        pairs.append(pair)
        numbers.append(number)
        release(tissue.nucleus_of, tissue.molecules.gene)
    row, column = np.divmod(np.concatenate(pairs), n_genes)
    return csr_array((np.concatenate(numbers).astype(float), (row, column)), shape=(n, n_genes))
