"""Profiles of a reference as an assay shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjg.expression._deviation import Deviation, type_deviation
from sjg.expression._efficiency import Efficiency, gene_efficiency

#: share of the tissue's composition that each profile is given, so that none excludes a gene
_PROFILE_FLOOR = 1e-3
#: share of the molecules in a nucleus that come from the tissue around it, where it cannot be told, and its bounds where it can
_AMBIENT, _AMBIENT_BOUNDS = 0.08, (0.001, 0.4)
#: a type hardly makes a gene of which its profile has this much less than the tissue
_HARDLY = 0.05
#: molecules that a gene must be expected to bring into a type that hardly makes it, how many such pairs there must be, and the quantile of
#: these that is taken: of some the type makes the gene, and the reference does not know
_TELLING, _MIN_TELLING, _LOW = 8.0, 10, 0.25
#: factor by which molecules from elsewhere may be more or less than expected: neighbours differ from place to place
_UNEVEN = 3.0


@dataclass(frozen=True)
class Fitted:
    """Profiles as an assay shows them.

    Parameters
    ----------
    whole
        (K, G) rows sum to 1: of whole cells.
    nuclear
        (K, G) rows sum to 1: of nuclei, without what comes from elsewhere.
    efficiency, deviation
        What they were found with; the spread of the deviations is that of genes that the reference has.
    lacking
        (G,) genes that the reference lacks.
    ambient_fraction
        Share of the molecules in nuclei that come from the tissue around them.
    """

    whole: NDArray[np.float64]
    nuclear: NDArray[np.float64]
    efficiency: Efficiency
    deviation: Deviation
    lacking: NDArray[np.bool_]
    ambient_fraction: float


def fit_profiles(
    profiles: NDArray[np.float64],
    in_nuclei: NDArray[np.float64],
    around: NDArray[np.float64] | None = None,
    *,
    shares_around: NDArray[np.float64] | None = None,
) -> Fitted:
    """Profiles fitted to what a tissue shows, as far as it shows it.

    Efficiencies first, then deviations of single types from what is expected in their nuclei: their own genes, molecules of the
    tissue around and false calls.

    Parameters
    ----------
    profiles
        (K, G) positive, rows sum to 1. A gene with the same share in all of several types is taken to be none of the reference's.
    in_nuclei
        (K, G) molecules of each gene in the nuclei of each type, by the probabilities of the types: hard choices among uncertain ones
        would look like deviations.
    around
        (G,) molecules of each gene in and around nuclei, from which the efficiencies are found: for genes that stay in the nucleus would
        look as if they were seen better. None takes those inside.
    shares_around
        (K,) share of each type in these molecules, sum 1; None takes the shares of those inside. Types differ in how much of a cell is
        nucleus.

    Returns
    -------
    Fitted
        With nothing seen, the profiles as they are.

    Examples
    --------
    The tissue shows the last gene four times as often as the reference says, in both types:

    >>> import numpy as np
    >>> from sjg.expression import fit_profiles
    >>> reference = np.array([[0.60, 0.20, 0.10, 0.05, 0.05], [0.05, 0.05, 0.10, 0.20, 0.60]])
    >>> in_nuclei = 1000 * reference * [1, 1, 1, 1, 4]
    >>> change = fit_profiles(reference, in_nuclei).whole / reference
    >>> change.argmax(axis=1).tolist()
    [4, 4]
    """
    by_gene, n_genes = in_nuclei.sum(0), profiles.shape[1]
    total = by_gene.sum()
    known = np.ones(n_genes, bool) if len(profiles) == 1 else np.ptp(np.log(profiles), axis=0) > 1e-6
    if total == 0:
        nothing = Efficiency(np.ones(n_genes), 0.0, 0.0), Deviation(np.ones_like(profiles), 0.0)
        return Fitted(profiles, profiles, *nothing, ~known, _AMBIENT)
    shares = in_nuclei.sum(1) / total
    if around is None or shares_around is None:
        shares_around = shares
    efficiency = gene_efficiency(profiles, shares_around, by_gene if around is None else around, known=known)
    whole = _normalised(profiles * efficiency.gene)
    enrichment = gene_efficiency(whole, shares, by_gene, known=known)
    nuclear = _normalised(whole * enrichment.gene)
    false_calls = np.full(n_genes, enrichment.blind_fraction / n_genes)
    ambient_fraction = _ambient_fraction(nuclear[:, known], in_nuclei[:, known], false_calls[known], by_gene[known] / total)
    foreign = ambient_fraction * by_gene / total + false_calls
    own = (1 - foreign.sum()) * nuclear
    expected = in_nuclei.sum(1, keepdims=True) * (own + foreign)
    factor, spread = np.ones_like(profiles), 0.0
    for genes in (~known, known):
        if genes.any():
            deviation = type_deviation(in_nuclei[:, genes], expected[:, genes])
            factor[:, genes], spread = deviation.factor, deviation.spread
    # an excess is the type's own where uneven surroundings cannot account for it
    least, most = (factor * (own + foreign) - uneven * foreign for uneven in (_UNEVEN, 1 / _UNEVEN))
    change = np.where(least > factor * own, least, np.where((most > 0) & (most < factor * own), most, factor * own)) / own
    return Fitted(
        _normalised(whole * change), _normalised(nuclear * change), efficiency, Deviation(factor, spread), ~known, ambient_fraction
    )


def _ambient_fraction(
    nuclear: NDArray[np.float64], in_nuclei: NDArray[np.float64], false_calls: NDArray[np.float64], ambient: NDArray[np.float64]
) -> float:
    """Share of the molecules of nuclei that is of the tissue around: a low quantile over genes and types that hardly make them."""
    possible = in_nuclei.sum(1, keepdims=True) * ambient
    telling = (nuclear < _HARDLY * ambient) & (possible * _AMBIENT > _TELLING)
    if telling.sum() < _MIN_TELLING:
        return _AMBIENT
    seen = in_nuclei - in_nuclei.sum(1, keepdims=True) * (false_calls + nuclear)
    return float(np.clip(np.quantile(seen[telling] / possible[telling], _LOW), *_AMBIENT_BOUNDS))


def as_probabilities(profiles: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positive probability of each gene in each type.

    Parameters
    ----------
    profiles
        (K, G) class means.
    total
        (G,) molecules of each gene in the tissue: its composition is mixed in, and stands for a class without any of the genes.

    Returns
    -------
    (K, G) rows sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.expression import as_probabilities
    >>> as_probabilities(np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([50, 50])).round(2).tolist()
    [[0.75, 0.25], [0.5, 0.5]]
    """
    ambient = (total + 0.5) / (total + 0.5).sum()
    mixed = profiles / np.maximum(profiles.sum(1, keepdims=True), np.finfo(float).tiny) + _PROFILE_FLOOR * ambient
    return _normalised(mixed)


def usual_composition(nuclear: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """What nuclei of each type are expected to hold before anything is known of the tissue.

    Parameters
    ----------
    nuclear
        (K, G) profiles, rows sum to 1.
    total
        (G,) molecules of each gene in the tissue, of which nuclei hold the usual share (8 %).

    Returns
    -------
    (K, G) rows sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.expression import usual_composition
    >>> usual_composition(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1000, 1000])).round(2).tolist()
    [[0.96, 0.04], [0.04, 0.96]]
    """
    result: NDArray[np.float64] = (1 - _AMBIENT) * nuclear + _AMBIENT * (total + 0.5) / (total + 0.5).sum()
    return result


def _normalised(profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = profiles / profiles.sum(1, keepdims=True)
    return result
