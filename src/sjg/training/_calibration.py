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

#: molecules from which efficiencies are found, and how far from a nucleus, in median radii, they may lie
_SAMPLE, _NEAR_RADII = 500_000, 1.5
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
        in_nuclei = counts_by_type(types, tissue, usual_composition(profiles, total))
    if not in_nuclei.any():
        return types
    taken = np.arange(0, len(gene), max(1, len(gene) // _SAMPLE))
    _, signed, _ = nearest_candidates(tissue.nuclei, tissue.molecules.yx_px[taken], 1)
    around = np.bincount(gene[taken[signed[:, 0] < _NEAR_RADII * tissue.radius_px]], minlength=n_genes).astype(float)
    tissue.release()
    return replace(types, profiles=fit_profiles(profiles, in_nuclei, around).whole)


def counts_by_type(types: CellTypes, tissue: Tissue, composition: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, G) molecules in the nuclei of each type, by the start types and what the nuclei hold.

    Parameters
    ----------
    types
        Start types; nuclei of unknown type are left out.
    tissue
        Molecules and nuclei.
    composition
        (K, G) what nuclei of each type are expected to hold.
    """
    n, (n_types, n_genes) = len(tissue.nuclei), composition.shape
    counts = csr_array((n, n_genes))
    for rows in parts(len(tissue.nucleus_of)):
        nucleus = tissue.nucleus_of[rows]
        inside = nucleus > 0
        pair = (nucleus[inside] - 1, tissue.molecules.gene[rows][inside])
        counts = counts + csr_array((np.ones(len(pair[0])), pair), shape=(n, n_genes))
        release(tissue.nucleus_of, tissue.molecules.gene)
    found, log_composition = np.zeros((n_types, n_genes)), np.log(composition).T
    known = np.flatnonzero(types.initial >= 0)
    confidence = np.clip(np.asarray(types.confidence, float), 1e-3, _MAX_CONFIDENCE)
    for start in range(0, len(known), _ROWS):
        cells = known[start : start + _ROWS]
        prior = np.repeat((1 - confidence[cells, None]) / n_types, n_types, axis=1)
        prior[np.arange(len(cells)), types.initial[cells]] += confidence[cells]
        posterior = softmax(counts[cells] @ log_composition + np.log(prior), axis=1)
        found += np.asarray(counts[cells].T @ posterior).T
    return found
