"""How an assay sees what a reference says: efficiencies of the genes, deviations of single types (empirical Bayes)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import gammaln

#: rounds in which efficiencies and the totals of the weighted profiles are made to agree
_N_ROUNDS = 8
#: steps of scoring towards the likeliest efficiencies
_N_STEPS = 12
#: bounds of the spread of efficiencies and deviations, and of the share of molecules that are blind to the gene
_SPREADS, _BLIND = (0.01, 1.5), (1e-4, 0.5)
#: share of the tissue's composition that each profile is given, so that none excludes a gene
_PROFILE_FLOOR = 1e-3
#: share of the molecules in a nucleus that come from the whole tissue's composition, whatever the type
AMBIENT_FRACTION = 0.08
#: mean of the prior of that share, which a panel of few genes hardly tells
_USUAL_BLIND = 0.05
#: how much of what sets genes apart in the reference may be its efficiencies
_MOST = 0.75


@dataclass(frozen=True)
class Efficiency:
    """Efficiencies of G genes and what they were found with.

    Parameters
    ----------
    gene
        (G,) factors on the profiles; their mean, weighted by what is expected of each gene, is 1.
    spread
        Standard deviation of their logarithms before the data were seen.
    blind_fraction
        Share of the molecules that fall on all genes alike, as false calls do.
    """

    gene: NDArray[np.float64]
    spread: float
    blind_fraction: float


@dataclass(frozen=True)
class Deviation:
    """How types deviate from their profiles, and what that was found with.

    Parameters
    ----------
    factor
        (K, G) factors on the profiles.
    spread
        Standard deviation of a factor before the data were seen.
    """

    factor: NDArray[np.float64]
    spread: float


@dataclass(frozen=True)
class Fitted:
    """Profiles as an assay shows them.

    Parameters
    ----------
    whole, inside
        (K, G) rows sum to 1: of whole cells, and of the parts in which the molecules were counted by type.
    efficiency, deviation
        What they were found with.
    """

    whole: NDArray[np.float64]
    inside: NDArray[np.float64]
    efficiency: Efficiency
    deviation: Deviation


def fit_profiles(profiles: NDArray[np.float64], inside: NDArray[np.float64], around: NDArray[np.float64] | None = None) -> Fitted:
    """Profiles fitted to what a tissue shows, as far as it shows it.

    Parameters
    ----------
    profiles
        (K, G) positive, rows sum to 1.
    inside
        (K, G) molecules of each gene inside the nuclei of each type; not all 0.
    around
        (G,) molecules of each gene in and around nuclei, from which the efficiencies are found: for genes that stay in the nucleus would
        look as if they were seen better. None takes those inside.
    """
    in_nuclei = inside.sum(0)
    shares = inside.sum(1) / inside.sum()
    efficiency = gene_efficiency(profiles, shares, in_nuclei if around is None else around)
    whole = _normalised(profiles * efficiency.gene)
    nuclear = gene_efficiency(whole, shares, in_nuclei)
    in_type = _normalised(whole * nuclear.gene)
    foreign = AMBIENT_FRACTION * in_nuclei / in_nuclei.sum() + nuclear.blind_fraction / len(in_nuclei)
    deviation = type_deviation(inside, in_type, foreign)
    return Fitted(_normalised(whole * deviation.factor), _normalised(in_type * deviation.factor), efficiency, deviation)


def as_probabilities(profiles: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, G) positive probability of each gene in each type from class means, and from the (G,) `total` of the tissue where these are 0."""
    ambient = (total + 0.5) / (total + 0.5).sum()
    mixed = profiles / np.maximum(profiles.sum(1, keepdims=True), np.finfo(float).tiny) + _PROFILE_FLOOR * ambient
    result: NDArray[np.float64] = mixed / mixed.sum(1, keepdims=True)
    return result


def _normalised(profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = profiles / profiles.sum(1, keepdims=True)
    return result


def gene_efficiency(profiles: NDArray[np.float64], shares: NDArray[np.float64], counts: NDArray[np.float64]) -> Efficiency:
    """Efficiency of each gene from the molecules of a tissue and the shares of its types.

    The count of gene g is Poisson with mean ``N ((1 - b) x_g e_g + b / G)``: x the expected composition, b the share that is blind to
    the gene, e the efficiency. ``log e`` is normal with spread s around a mean that falls with x: what a gene has in excess in the
    reference the tissue lacks (regression to the mean, by ``s^2 / var(log x)``). Spread and share are the likeliest ones (Laplace's
    approximation of the integral over e; exponential prior of the share), the efficiencies the likeliest ones given these. With the reference of the same assay the
    spread is small and they stay near 1. Efficiencies as in pciSeq :cite:p:`qian2020pciseq`, whose prior is fixed.

    Parameters
    ----------
    profiles
        (K, G) positive, rows sum to 1.
    shares
        (K,) share of each type in the molecules, sum 1.
    counts
        (G,) molecules of each gene.
    """
    total, n_genes = float(counts.sum()), len(counts)
    efficiency, spread, blind = np.ones(n_genes), _SPREADS[0], 0.0
    if total == 0 or n_genes < 2:
        return Efficiency(efficiency, spread, blind)
    start = np.log([0.2, 0.02])
    for _ in range(_N_ROUNDS):
        expected = (shares / (profiles @ efficiency)) @ profiles
        expected /= expected @ efficiency
        most = float(np.clip(np.sqrt(_MOST) * np.log(expected).std(), 2 * _SPREADS[0], _SPREADS[1]))

        def loss(x: NDArray[np.float64], expected: NDArray[np.float64] = expected) -> float:
            return float(np.exp(x[1])) / _USUAL_BLIND - _efficiencies(expected, counts, *np.exp(x))[1]

        found = minimize(loss, start, method="L-BFGS-B", bounds=[np.log((_SPREADS[0], most)), np.log(_BLIND)])
        start = found.x
        spread, blind = (_rounded(v) for v in found.x)
        new = np.exp(_efficiencies(expected, counts, spread, blind)[0])
        new *= expected.sum() / (new @ expected)
        done = np.abs(np.log(new / efficiency)).max() < 1e-3
        efficiency = new
        if done:
            break
    return Efficiency(efficiency, spread, blind)


def _rounded(log_value: float) -> float:
    """To 2 %: where an optimiser stops hangs on the last bits of sums, and with it on the number of threads."""
    return float(np.exp(np.round(log_value / 0.02) * 0.02))


def _efficiencies(
    expected: NDArray[np.float64], counts: NDArray[np.float64], spread: float, blind: float
) -> tuple[NDArray[np.float64], float]:
    """Likeliest log efficiencies and the log-likelihood of the counts."""
    total = counts.sum()
    known, noise = total * (1 - blind) * expected, total * blind / len(expected)
    abundance = np.log(expected)
    variance = spread**2
    regression = min(variance / max(float(abundance.var()), 1e-9), _MOST)
    usual = -regression * (abundance - np.average(abundance, weights=expected))
    precision = 1 / (variance * (1 - regression))
    # a start from which scoring goes down, never up into the exponential
    theta = np.log(np.maximum(counts - noise, 0.1 * counts + 0.5) / known)
    theta = usual + (theta - usual) * counts / (counts + precision)
    for _ in range(_N_STEPS):
        signal = known * np.exp(theta)
        mean = signal + noise
        slope = (counts / mean - 1) * signal - precision * (theta - usual)
        information = signal**2 / mean + precision
        theta += np.clip(slope / information, -1, 1)
    signal = known * np.exp(theta)
    mean = signal + noise
    information = signal**2 / mean + precision
    likelihood = counts * np.log(mean) - mean - 0.5 * precision * (theta - usual) ** 2 + 0.5 * np.log(precision / information)
    return theta, float(likelihood.sum())


def type_deviation(counts: NDArray[np.float64], profiles: NDArray[np.float64], foreign: NDArray[np.float64]) -> Deviation:
    """Deviations of types from their profiles, from what their cells hold.

    The count of gene g in all cells of type k is Poisson with mean ``N_k f_kg ((1 - sum q) p_kg + q_g)``: p the profile, q what comes from
    elsewhere, f a gamma variable with mean 1 and standard deviation s (a negative binomial distribution). The spread s is the
    likeliest one, f is its posterior mean. With profiles that are right the spread is small and the factors stay near 1; a type of
    which little was seen keeps its profile.

    Parameters
    ----------
    counts
        (K, G) molecules of each gene in the cells of each type.
    profiles
        (K, G) positive, rows sum to 1.
    foreign
        (G,) share of each gene in the molecules that the cells hold but did not make; sums to less than 1.
    """
    expected = counts.sum(1, keepdims=True) * ((1 - foreign.sum()) * profiles + foreign)
    seen = np.broadcast_to(counts.sum(1, keepdims=True) > 0, counts.shape)
    if not seen.any():
        return Deviation(np.ones_like(counts), _SPREADS[0])
    c, mean = counts[seen], expected[seen]

    def loss(log_spread: float) -> float:
        size = float(np.exp(-2 * log_spread))
        return float(-(gammaln(c + size) - gammaln(size) - (c + size) * np.log1p(mean / size) - c * np.log(size)).sum())

    spread = _rounded(minimize_scalar(loss, bounds=np.log(_SPREADS), method="bounded").x)
    return Deviation((counts + spread**-2) / (expected + spread**-2), spread)
