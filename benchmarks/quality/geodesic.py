"""Type-aware shortest-path growth with the types of single pixels: ``sjg.labels.grow`` without any network."""

from __future__ import annotations

import numpy as np
from conditions import Case
from methods import Result, by_mask
from scipy import ndimage

from sjg.labels import grow

#: a pixel is background where transcripts are thinner than this share of the density in nuclei
_BACKGROUND = 0.25
_BLUR_RADII = 0.5


def geodesic_growth(case: Case, *, type_weight: float = 1.0) -> Result:
    """Cells by growth through pixels that suit their type; types from class means, or from clusters of nuclei."""
    nucleus = case.nuclei[case.pixel]
    n, n_genes = int(case.nuclei.max()), len(case.gene_names)
    profiles = case.profiles if case.condition.reference else _clusters(case, nucleus)
    ambient = np.bincount(case.gene, minlength=n_genes) + 1.0
    shares = 0.95 * profiles / profiles.sum(1, keepdims=True) + 0.05 * ambient / ambient.sum()
    log_share = np.log(shares)
    radius = np.sqrt(np.median(np.bincount(case.nuclei.ravel())[1:][np.bincount(case.nuclei.ravel())[1:] > 0]) / np.pi)
    sigma = _BLUR_RADII * radius
    evidence = np.zeros((len(shares), *case.truth.shape))
    for plane, row in zip(evidence, log_share, strict=True):
        np.add.at(plane, case.pixel, row[case.gene])
        plane[:] = ndimage.gaussian_filter(plane, sigma) * 2 * np.pi * sigma**2
    count = np.zeros(case.truth.shape)
    np.add.at(count, case.pixel, 1)
    density = ndimage.gaussian_filter(count, sigma)
    is_empty = density < _BACKGROUND * count[case.nuclei > 0].mean()
    # background where it is empty, types by evidence elsewhere
    log_type = evidence - np.logaddexp.reduce(evidence, axis=0)
    certain, impossible = np.log(0.99), np.log(0.01)
    posterior = np.concatenate(
        [np.where(is_empty, certain, impossible)[None], np.maximum(log_type, -8) + np.where(is_empty, impossible, certain)]
    )
    of_nucleus = np.zeros((n + 1, len(shares)))
    np.add.at(of_nucleus, nucleus, log_share[:, case.gene].T)
    labels, _ = grow(case.nuclei, 1 + of_nucleus.argmax(1), np.minimum(posterior, 0).astype(np.float32), type_weight=type_weight)
    return by_mask(case, labels)


def _clusters(case: Case, nucleus: np.ndarray) -> np.ndarray:
    """Mean counts of KMeans clusters of the nuclei."""
    from sklearn.cluster import KMeans

    counts = np.zeros((int(case.nuclei.max()) + 1, len(case.gene_names)))
    np.add.at(counts, (nucleus, case.gene), 1)
    counts = counts[1:]
    code = KMeans(8, random_state=0, n_init=4).fit_predict(np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1)))
    return np.stack([counts[code == k].sum(0) + 1e-3 for k in range(8)])
