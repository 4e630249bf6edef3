"""Types of nuclei from counts and class means: a likelihood over classes, robust at a handful of transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.special import gammaln, logsumexp

from sjg.expression import as_probabilities, fit_profiles

#: concentrations tried for the Dirichlet; infinity is the multinomial
_CONCENTRATIONS = (np.inf, 400.0, 150.0, 60.0, 25.0)
#: nuclei on which the concentration is chosen
_MAX_NUCLEI_FOR_CHOICE = 2000
#: relative spread of the deviations from the reference below which it fits
_FITS = 0.05
#: nuclei whose likelihood is computed together
_ROWS = 1 << 13


@dataclass(frozen=True)
class TypingParameters:
    """Knobs of :func:`type_nuclei`.

    Parameters
    ----------
    n_iterations
        Rounds of expectation maximisation over gene efficiencies and class frequencies; 0 takes the profiles as they are, and
        revises none.
    n_revisions
        Times that the profiles are fitted to what the nuclei of each class show, and the nuclei typed again; less where the reference
        fits. 0 trusts the reference.
    ambient_fraction
        Fraction of the transcripts of a nucleus that come from the whole tissue's composition whatever its class. It keeps a
        single misplaced transcript from ruling a class out and stands in for means that are zero.
    efficiency_prior
        Transcripts of a gene that its data must outweigh to move its efficiency from 1 (pseudo-count of a gamma prior).
    frequency_prior
        Pseudo-count of nuclei of each class.
    uniform_frequencies
        Whether all classes are equally frequent a priori; else the frequencies are estimated.
    concentration
        Total of the Dirichlet around a class profile: how far single nuclei stray from their class (infinity: not at all). None
        chooses the value under which the counts are most likely.
    """

    n_iterations: int = 10
    n_revisions: int = 3
    ambient_fraction: float = 0.08
    efficiency_prior: float = 10.0
    frequency_prior: float = 5.0
    uniform_frequencies: bool = False
    concentration: float | None = None


def type_nuclei(counts: Any, profiles: NDArray[np.floating[Any]], *, parameters: TypingParameters | None = None) -> NDArray[np.float64]:
    """Posterior over classes of every nucleus.

    The counts of nucleus n of class k are Dirichlet-multinomial given their total, so that neither depth nor the size of a nucleus
    matters. The expected composition is ``(1 - a) * e_g * mu_kg / sum + a * q_g``: mu the class means, e the efficiency of each gene
    in situ relative to the reference (as in pciSeq :cite:p:`qian2020pciseq`), q the composition of the tissue, a the ambient
    fraction. Efficiencies and class frequencies are estimated by expectation maximisation under priors that hold them near 1 and
    near uniform where data are few. Where classes show other genes than their reference says, their profiles follow, by as much as
    the data tell that the reference errs (:func:`sjg.expression.fit_profiles`).

    Parameters
    ----------
    counts
        (n, G) counts, sparse or dense; a row may be empty.
    profiles
        (K, G) non-negative mean counts; only the shape of a row matters.
    parameters
        Knobs; None for the defaults.

    Returns
    -------
    (n, K) posterior, rows sum to 1; that of a nucleus without transcripts is the estimated class frequencies.

    Raises
    ------
    ValueError
        Shapes that do not fit, or negative or non-finite numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.pp._typing import type_nuclei
    >>> posterior = type_nuclei(np.array([[5, 0], [0, 4]]), np.array([[9.0, 1.0], [1.0, 9.0]]))
    >>> posterior.argmax(axis=1).tolist()
    [0, 1]
    """
    parameters = parameters or TypingParameters()
    matrix = as_counts(counts)
    means = np.asarray(profiles, dtype=np.float64)
    if means.ndim != 2 or means.shape[0] < 1 or means.shape[1] != matrix.shape[1]:
        raise ValueError(f"profiles must be (K, {matrix.shape[1]}) with K >= 1 for counts {matrix.shape}, got {means.shape}")
    if not np.isfinite(means).all() or (means < 0).any():
        raise ValueError("profiles must be finite and not negative")
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    seen = np.asarray(matrix.sum(axis=0)).ravel()
    ambient = (seen + 1.0) / (seen + 1.0).sum()
    shape = means / np.maximum(means.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    shape[means.sum(axis=1) == 0] = ambient
    mixed, frequencies = _fit(matrix, shape, ambient, parameters)
    if totals.any() and parameters.n_iterations:
        given = as_probabilities(shape, seen)
        for _ in range(parameters.n_revisions):
            posterior = _posterior(multinomial_log_likelihood(matrix, mixed), frequencies)
            fitted = fit_profiles(given, np.asarray(matrix.T @ posterior).T)
            del posterior
            if fitted.deviation.spread < _FITS and not fitted.lacking.any():
                break
            mixed, frequencies = _fit(matrix, fitted.nuclear, ambient, parameters)
    concentration = parameters.concentration or likeliest_concentration(matrix, mixed, frequencies)
    return _posterior(dirichlet_multinomial_log_likelihood(matrix, mixed, concentration), frequencies)


def _fit(
    matrix: csr_array, shape: NDArray[np.float64], ambient: NDArray[np.float64], parameters: TypingParameters
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected composition (K, G) and frequency (K,) of each class, by expectation maximisation."""
    totals, seen = (np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0))
    efficiency = np.ones(shape.shape[1])
    frequencies = np.full(len(shape), 1.0 / len(shape))
    mixed = _compositions(shape, efficiency, ambient, parameters.ambient_fraction)
    for _ in range(parameters.n_iterations):
        posterior = _posterior(multinomial_log_likelihood(matrix, mixed), frequencies)
        # of the transcripts, those that the class and not the surroundings gave
        expected = (posterior * totals[:, None]).sum(axis=0) @ (mixed / efficiency)
        efficiency = (seen + parameters.efficiency_prior) / (expected + parameters.efficiency_prior)
        if not parameters.uniform_frequencies:
            frequencies = posterior.sum(axis=0) + parameters.frequency_prior
            frequencies /= frequencies.sum()
        mixed = _compositions(shape, efficiency, ambient, parameters.ambient_fraction)
    return mixed, frequencies


def as_counts(counts: Any) -> csr_array:
    """(n, G) counts as a checked sparse matrix without stored zeros.

    Raises
    ------
    ValueError
        Another number of dimensions, or negative or non-finite counts.
    """
    dense_or_sparse = counts if issparse(counts) else np.asarray(counts, dtype=np.float64)
    if dense_or_sparse.ndim != 2:
        raise ValueError(f"counts must be (n, G), got {dense_or_sparse.ndim} dimensions")
    matrix = csr_array(dense_or_sparse, dtype=np.float64, copy=True)
    if matrix.data.size and (not np.isfinite(matrix.data).all() or matrix.data.min() < 0):
        raise ValueError("counts must be finite and not negative")
    matrix.eliminate_zeros()
    return matrix


def multinomial_log_likelihood(counts: csr_array, compositions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, K) log-likelihood of rows of counts (n, G) under compositions (K, G), up to a constant for each row."""
    return np.asarray(counts @ np.log(compositions).T)


def dirichlet_multinomial_log_likelihood(counts: csr_array, compositions: NDArray[np.float64], concentration: float) -> NDArray[np.float64]:
    """(n, K) log-likelihood of rows of counts up to a constant for each row, their composition Dirichlet around (K, G) compositions.

    ``log Gamma(c + A p) - log Gamma(A p)`` is the sum over j < c of ``log(A p + j)``, so with integer counts each j is one sparse
    product over the few entries above j. Infinite concentration is the multinomial.
    """
    if np.isinf(concentration):
        return multinomial_log_likelihood(counts, compositions)
    # some rows at a time: the entries are unfolded several times
    starts = range(0, counts.shape[0], _ROWS)
    found = [_rows_log_likelihood(counts[start : start + _ROWS], compositions, concentration) for start in starts]
    return np.concatenate(found) if found else np.zeros((0, len(compositions)))


def _rows_log_likelihood(counts: csr_array, compositions: NDArray[np.float64], concentration: float) -> NDArray[np.float64]:
    result = np.zeros((counts.shape[0], len(compositions)))
    entries = counts.tocoo()
    row, column, count = entries.coords[0], entries.coords[1], entries.data
    level = 0
    while row.size:
        rows, row_code = np.unique(row, return_inverse=True)
        columns, column_code = np.unique(column, return_inverse=True)
        above = csr_array((np.ones(row.size), (row_code, column_code)), shape=(rows.size, columns.size))
        result[rows] += above @ np.log(compositions[:, columns] + level / concentration).T
        level += 1
        keep = count > level
        row, column, count = row[keep], column[keep], count[keep]
    return result


def likeliest_concentration(counts: csr_array, compositions: NDArray[np.float64], frequencies: NDArray[np.float64]) -> float:
    """Concentration, of a few, under which counts (n, G) are most likely in a mixture of compositions (K, G)."""
    step = max(1, -(-counts.shape[0] // _MAX_NUCLEI_FOR_CHOICE))
    some = counts[::step]
    totals = np.asarray(some.sum(axis=1)).ravel()

    def evidence(concentration: float) -> float:
        by_class = dirichlet_multinomial_log_likelihood(some, compositions, concentration) + np.log(frequencies)
        return float(logsumexp(by_class, axis=1).sum() - _rising(totals, concentration).sum())

    return max(_CONCENTRATIONS, key=evidence)


def _compositions(
    shape: NDArray[np.float64], efficiency: NDArray[np.float64], ambient: NDArray[np.float64], ambient_fraction: float
) -> NDArray[np.float64]:
    weighted = shape * efficiency
    weighted /= np.maximum(weighted.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    mixed: NDArray[np.float64] = (1 - ambient_fraction) * weighted + ambient_fraction * ambient
    return np.maximum(mixed, 1e-12)


def _posterior(log_likelihood: NDArray[np.float64], frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    logits = log_likelihood + np.log(frequencies)
    result: NDArray[np.float64] = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    return result


def _rising(totals: NDArray[np.float64], concentration: float) -> NDArray[np.float64]:
    """Sum over j < total of ``log(1 + j / concentration)``: the normaliser of the Dirichlet-multinomial."""
    if np.isinf(concentration):
        return np.zeros(len(totals))
    result: NDArray[np.float64] = gammaln(totals + concentration) - gammaln(concentration) - totals * np.log(concentration)
    return result
