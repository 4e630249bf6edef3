"""The profiles of a reference as the assay of the tissue would see them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sjg.core import CellTypes
from sjg.training._efficiency import as_probabilities, fit_profiles
from sjg.training._nuclei import nearest_candidates
from sjg.training._tissue import Tissue

#: molecules that are looked at, and how far from a nucleus, in median radii, they may lie
_SAMPLE, _NEAR_RADII = 500_000, 1.5


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
    taken = np.arange(0, len(gene), max(1, len(gene) // _SAMPLE))
    code = np.concatenate([[-1], types.initial])[tissue.nucleus_of[taken]]
    typed = code >= 0
    of_type = np.bincount(code[typed] * n_genes + gene[taken[typed]], minlength=len(types.names) * n_genes)
    inside = of_type.reshape(len(types.names), n_genes).astype(np.float64)
    if not inside.any():
        return types
    total = np.bincount(gene[taken], minlength=n_genes).astype(float)
    _, signed, _ = nearest_candidates(tissue.nuclei, tissue.molecules.yx_px[taken], 1)
    near = np.bincount(gene[taken[signed[:, 0] < _NEAR_RADII * tissue.radius_px]], minlength=n_genes).astype(float)
    tissue.release()
    found = fit_profiles(as_probabilities(np.asarray(types.profiles, float), total), inside, near)
    return replace(types, profiles=found.whole)
