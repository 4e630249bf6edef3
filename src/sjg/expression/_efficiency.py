"""Efficiency with which an assay sees each gene, relative to that of a reference (empirical Bayes)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

#: rounds in which efficiencies and the totals of the weighted profiles are made to agree
_N_ROUNDS = 8
#: most steps of scoring towards the likeliest efficiencies
_MAX_STEPS = 60
#: bounds of the spread of the efficiencies and of the share of molecules that are blind to the gene
SPREADS, _BLIND = (0.01, 1.5), (1e-4, 0.5)
#: mean of the prior of that share, which a panel of few genes hardly tells
_USUAL_BLIND = 0.05
#: as so many molecules do more count, and as so many for each gene
_ENOUGH, _ENOUGH_BY_GENE = 1e6, 1e4
#: how much of what sets genes apart in the reference may be its efficiencies
_MOST = 0.75


@dataclass(frozen=True)
class Efficiency:
    """Efficiencies of G genes and what they were found with.

    Parameters
    ----------
    gene
        (G,) factors on the profiles; over the known genes their mean, weighted by what is expected, is 1.
    spread
        Standard deviation of their logarithms before the data were seen.
    blind_fraction
        Share of the molecules that fall on all genes alike, as false calls do.
    """

    gene: NDArray[np.float64]
    spread: float
    blind_fraction: float


def gene_efficiency(
    profiles: NDArray[np.float64], shares: NDArray[np.float64], counts: NDArray[np.float64], *, known: NDArray[np.bool_] | None = None
) -> Efficiency:
    """Efficiency of each gene from the molecules of a tissue and the shares of its types.

    The count of gene g is Poisson with mean ``N ((1 - b) x_g e_g + b / G)``: x the expected composition, b the share that is blind to
    the gene, e the efficiency. ``log e`` is normal with spread s around a mean that falls with log x by ``s^2 / var(log x)``: what a
    gene has in excess in the reference is partly its efficiency there (regression to the mean). Spread and share are the likeliest
    ones (Laplace's approximation of the integral over e; exponential prior of the share), the efficiencies the likeliest ones given
    these. With the reference of the same assay the spread is small and they stay near 1. Efficiencies as in pciSeq
    :cite:p:`qian2020pciseq`, whose prior is fixed.

    Parameters
    ----------
    profiles
        (K, G) positive, rows sum to 1.
    shares
        (K,) share of each type in the molecules, sum 1.
    counts
        (G,) molecules of each gene.
    known
        (G,) genes that the reference has: spread and share are found from these, the others are left free. None = all.

    Returns
    -------
    Efficiency
        With factors of 1 where nothing was seen.

    Examples
    --------
    The tissue shows the last gene eight times as often as the reference has it:

    >>> import numpy as np
    >>> from sjg.expression import gene_efficiency
    >>> reference = np.array([[0.3, 0.3, 0.2, 0.1, 0.1]])
    >>> found = gene_efficiency(reference, np.ones(1), np.array([300.0, 300.0, 200.0, 100.0, 800.0]))
    >>> (found.gene / found.gene[0]).round().tolist()
    [1.0, 1.0, 1.0, 1.0, 8.0]
    """
    known = np.ones(len(counts), bool) if known is None else known
    efficiency, spread, blind, lacking = np.ones(len(counts)), SPREADS[0], 0.0, ~known
    n_known, total = int(known.sum()), float(counts[known].sum())
    if total == 0 or n_known < 2:
        return Efficiency(efficiency, spread, blind)
    # more tell no more of the efficiencies, and leave an optimiser no digits
    enough = max(_ENOUGH, _ENOUGH_BY_GENE * n_known)
    seen, named = counts[known] * min(1.0, enough / total), profiles[:, known]
    start = np.log([0.2, 0.02])
    for _ in range(_N_ROUNDS):
        expected = (shares / (profiles @ efficiency)) @ named
        expected /= expected @ efficiency[known]
        most = float(np.clip(np.sqrt(_MOST) * np.log(expected).std(), 2 * SPREADS[0], SPREADS[1]))

        def loss(x: NDArray[np.float64], expected: NDArray[np.float64] = expected) -> float:
            return float(np.exp(x[1])) / _USUAL_BLIND - efficiencies(expected, seen, *np.exp(x))[1]

        found = minimize(loss, start, method="L-BFGS-B", bounds=[np.log((SPREADS[0], most)), np.log(_BLIND)])
        start = found.x
        spread, blind = (rounded(v) for v in found.x)
        new = efficiency.copy()
        new[known] = np.exp(efficiencies(expected, seen, spread, blind)[0])
        new[known] *= expected.sum() / (new[known] @ expected)
        if lacking.any():
            # as often as it is seen, beside the known ones
            alike = (shares / (profiles @ efficiency)) @ profiles
            new[lacking] = (counts[lacking] + 0.5) / total * (new[known] @ alike[known]) / alike[lacking]
        done = np.abs(np.log(new / efficiency)).max() < 1e-3
        efficiency = new
        if done:
            break
    return Efficiency(efficiency, spread, blind)


def rounded(log_value: float) -> float:
    """To 2 %: where an optimiser stops hangs on the last bits of sums, which then hardly ever matter."""
    return float(np.exp(np.round(log_value / 0.02) * 0.02))


def efficiencies(
    expected: NDArray[np.float64], counts: NDArray[np.float64], spread: float, blind: float
) -> tuple[NDArray[np.float64], float]:
    """Likeliest log efficiencies, and the log-likelihood of the counts less that of a perfect fit.

    Parameters
    ----------
    expected
        (G,) share of each gene, where all efficiencies are 1.
    counts
        (G,) molecules.
    spread, blind
        Standard deviation of the log efficiencies, and share of the molecules that are blind to the gene.
    """
    total = counts.sum()
    certain, noise = total * (1 - blind) * expected, total * blind / len(expected)
    abundance = np.log(expected)
    regression = min(spread**2 / max(float(abundance.var()), 1e-9), _MOST)
    usual = -regression * (abundance - np.average(abundance, weights=expected)) - spread**2 / 2
    precision = 1 / (spread**2 * (1 - regression))
    # a start from which scoring goes down, never up into the exponential
    theta = np.log(np.maximum(counts - noise, 0.1 * counts + 0.5) / certain)
    theta = usual + (theta - usual) * counts / (counts + precision)
    for _ in range(_MAX_STEPS):
        signal = certain * np.exp(theta)
        mean = signal + noise
        slope = (counts / mean - 1) * signal - precision * (theta - usual)
        step = np.clip(slope / (signal**2 / mean + precision), -2, 2)
        theta += step
        if np.abs(step).max() < 1e-9:
            break
    signal = certain * np.exp(theta)
    mean = signal + noise
    information = signal**2 / mean + precision
    # less than that of a perfect fit, for a slide's counts leave no digits to the difference of two of their logarithms
    fit = counts * np.log(mean / np.maximum(counts, 1)) - (mean - counts)
    prior = -0.5 * precision * (theta - usual) ** 2 + 0.5 * np.log(precision / information)
    return theta, float((fit + prior).sum())
