"""How types deviate from their profiles (empirical Bayes)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from sjg.expression._efficiency import SPREADS, rounded


@dataclass(frozen=True)
class Deviation:
    """How types deviate from what was expected of them, and what that was found with.

    Parameters
    ----------
    factor
        (K, G) observed over expected, shrunk to 1.
    spread
        Standard deviation of a factor before the data were seen.
    """

    factor: NDArray[np.float64]
    spread: float


def type_deviation(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> Deviation:
    """Deviations of types from their profiles, from what their cells hold.

    The count of gene g in all cells of type k is Poisson with mean ``f_kg m_kg``: m what is expected, f a gamma variable with mean 1
    and standard deviation s (a negative binomial distribution). The spread s is the likeliest one, f is its posterior mean. With
    profiles that are right the spread is small and the factors stay near 1; a type of which little was seen keeps its profile.

    Parameters
    ----------
    counts
        (K, G) molecules of each gene in the cells of each type.
    expected
        (K, G) what is expected there, positive but for types without cells.

    Returns
    -------
    Deviation
        With factors of 1 where nothing was expected.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.expression import type_deviation
    >>> expected = np.array([[100.0, 100.0, 100.0], [2.0, 2.0, 2.0]])
    >>> factor = type_deviation(np.array([[400.0, 100.0, 25.0], [8.0, 2.0, 0.0]]), expected).factor
    >>> factor.round(1).tolist()  # of the second type little was seen
    [[4.0, 1.0, 0.3], [3.2, 1.0, 0.3]]
    """
    seen = expected > 0
    if not seen.any():
        return Deviation(np.ones_like(counts), SPREADS[0])
    c, mean = counts[seen], expected[seen]
    constant = (c * np.log(mean) - gammaln(c + 1)).sum()

    def loss(log_spread: float) -> float:
        size = float(np.exp(-2 * log_spread))
        fit = gammaln(c + size) - gammaln(size) - (c + size) * np.log1p(mean / size) - c * np.log(size)
        return float(-fit.sum() - constant)

    spread = rounded(minimize_scalar(loss, bounds=np.log(SPREADS), method="bounded").x)
    return Deviation((counts + spread**-2) / (expected + spread**-2), spread)
