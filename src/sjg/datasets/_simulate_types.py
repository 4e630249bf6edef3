"""Types of simulated cells: where they live and what they express."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjg.datasets._smooth_noise import smooth_noise


@dataclass(frozen=True)
class Profiles:
    """What each type expresses.

    Parameters
    ----------
    type_names
        The K types.
    gene_names
        The G genes.
    means
        (K, G) float64, rows sum to 1.
    marker_of
        (G,) int64 type of which the gene is a planted marker, -1 for none.
    """

    type_names: tuple[str, ...]
    gene_names: tuple[str, ...]
    means: NDArray[np.float64]
    marker_of: NDArray[np.int64]


def synthetic_profiles(rng: np.random.Generator, *, n_cell_types: int, n_genes: int, n_markers_per_type: int) -> Profiles:
    """Class means with the features of single-cell references.

    Abundances are log-normal over genes; types come in families (a broad class and its subtypes) that share most of their deviations;
    each type has `n_markers_per_type` planted markers, high in the type, nearly silent in the others.
    """
    abundance = np.exp(0.9 * rng.standard_normal(n_genes))
    n_families = max(1, (n_cell_types + 1) // 2)
    family = np.arange(n_cell_types) % n_families
    shared = 0.9 * rng.standard_normal((n_families, n_genes))
    own = 0.45 * rng.standard_normal((n_cell_types, n_genes))
    means = abundance[None, :] * np.exp(shared[family] + own)
    marker_of = np.full(n_genes, -1)
    chosen = rng.permutation(n_genes)[: n_cell_types * n_markers_per_type]
    marker_of[chosen] = np.arange(len(chosen)) % n_cell_types
    level = abundance.mean() * (3 + 5 * rng.random(n_genes))
    leak = 0.01 + 0.05 * rng.random((n_cell_types, n_genes))
    for gene in chosen:
        means[:, gene] = level[gene] * leak[:, gene]
        means[marker_of[gene], gene] = level[gene]
    return Profiles(
        tuple(f"type_{k}" for k in range(n_cell_types)),
        tuple(f"gene_{g:0{len(str(max(n_genes - 1, 1)))}d}" for g in range(n_genes)),
        means / means.sum(axis=1, keepdims=True),
        marker_of,
    )


def sampled_profiles(
    rng: np.random.Generator,
    means: NDArray[np.float64],
    type_names: tuple[str, ...],
    gene_names: tuple[str, ...],
    *,
    n_cell_types: int,
    n_genes: int,
) -> Profiles:
    """Class means drawn from a reference: at most `n_cell_types` of its classes and `n_genes` of its genes, in their order.

    Parameters
    ----------
    rng
        Source of the choice.
    means
        (types, genes) non-negative mean counts; classes without any count are never drawn.
    type_names, gene_names
        Names of rows and columns.
    n_cell_types, n_genes
        How many to draw; all where the reference has fewer.
    """
    usable = np.flatnonzero(means.sum(axis=1) > 0)
    types = np.sort(rng.permutation(usable)[:n_cell_types])
    expressed = np.flatnonzero(means[types].sum(axis=0) > 0)
    genes = np.sort(rng.permutation(expressed)[:n_genes]) if n_genes < len(gene_names) else np.arange(len(gene_names))
    chosen = means[np.ix_(types, genes)]
    # a class may lack counts in the genes that were drawn: it then expresses all of them alike
    chosen[chosen.sum(axis=1) == 0] = 1
    return Profiles(
        tuple(type_names[k] for k in types),
        tuple(gene_names[g] for g in genes),
        chosen / chosen.sum(axis=1, keepdims=True),
        np.full(len(genes), -1),
    )


def organise_types(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centres: NDArray[np.float64],
    *,
    n_cell_types: int,
    scale_px: float,
    mixing: float,
) -> NDArray[np.int64]:
    """A type for each centre: every other type keeps to a layer of a warped depth axis, the rest form patches, all of them mixed.

    Parameters
    ----------
    rng
        Source of the fields.
    shape
        (height, width) of the tissue in pixels.
    centres
        (n, 2) positions as (y, x) in pixels.
    n_cell_types
        Number of types.
    scale_px
        Distance over which the fields vary.
    mixing
        Standard deviation of the noise of single cells; the fields have 1, so 0 gives pure regions and much more than 1 a random mix.

    Returns
    -------
    (n,) int64 types.
    """
    row, column = (np.clip(axis.astype(np.int64), 0, size - 1) for axis, size in zip(centres.T, shape, strict=True))
    depth = centres[:, 0] / shape[0] + 0.10 * smooth_noise(rng, shape, 2 * scale_px)[row, column]
    layered = np.arange(n_cell_types) % 2 == 0
    level = (np.cumsum(layered) - 0.5) / max(layered.sum(), 1)
    score = np.empty((len(centres), n_cell_types))
    for k in range(n_cell_types):
        score[:, k] = smooth_noise(rng, shape, scale_px)[row, column]
        if layered[k] and n_cell_types > 2:
            offset = (depth - level[k]) * layered.sum()
            score[:, k] = 0.6 * score[:, k] + 1.3 - 2.4 * offset * offset
    score += 0.35 * rng.standard_normal(n_cell_types) + mixing * rng.standard_normal(score.shape)
    return np.argmax(np.rint(score * 4096), axis=1)
