"""Mixtures of multinomials: which nuclei go together by the likelihood of their counts, and how many groups there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gammaln, logsumexp

from sjg.pp._typing import likeliest_concentration

#: rounds of expectation maximisation at the start and end, and between two merges
_N_ROUNDS = 30
_N_ROUNDS_BETWEEN = 8
#: parts of the nuclei that are held out in turn
_N_FOLDS = 3
#: transcripts of average composition that shrink each profile
_PROFILE_PRIOR = 20.0
#: share of a nucleus that comes from its surroundings
_AMBIENT = 0.05
#: concentration of the Dirichlet from which profiles come, in the evidence
_EVIDENCE_CONCENTRATION = 50.0


@dataclass(frozen=True)
class Mixture:
    """Groups of nuclei.

    Parameters
    ----------
    compositions
        (K, G) expected share of each gene.
    frequencies
        (K,) share of nuclei in each group.
    """

    compositions: NDArray[np.float64]
    frequencies: NDArray[np.float64]

    def posterior(self, counts: csr_array) -> NDArray[np.float64]:
        """(n, K) posterior of rows of counts; that of an empty row is the frequencies."""
        logits = self._logits(counts)
        result: NDArray[np.float64] = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        return result

    def log_likelihood(self, counts: csr_array) -> NDArray[np.float64]:
        """(n,) log probability of rows of counts, up to a constant that depends on the row alone."""
        result: NDArray[np.float64] = logsumexp(self._logits(counts), axis=1)
        return result

    def _logits(self, counts: csr_array) -> NDArray[np.float64]:
        return np.asarray(counts @ np.log(self.compositions).T + np.log(self.frequencies))


def fit_mixture(counts: csr_array, codes: NDArray[np.integer], *, n_groups: int | None = None) -> Mixture:
    """Fit groups that start from `codes`, joining the two most alike again and again.

    The next two to join are those that lose the least evidence: the probability of all counts with the profiles integrated out under
    a Dirichlet around the average composition, times the probability of the partition. Expectation maximisation runs before, between
    and after the joins.

    Parameters
    ----------
    counts
        (n, G) counts.
    codes
        (n,) group of each row at the start, 0..K-1, better too many than too few.
    n_groups
        Join down to this number; None to stop where a join would lower the evidence.
    """
    average = _average(counts)
    membership = np.eye(int(codes.max()) + 1)[codes]
    mixture, membership = _maximise(counts, membership, average, _N_ROUNDS)
    while len(mixture.frequencies) > (n_groups or 1):
        gain, one, other = _best_join(_independent(counts, mixture), membership, average)
        if n_groups is None and gain <= 0:
            break
        mixture, membership = _join(counts, membership, average, one, other)
    mixture, _ = _maximise(counts, membership, average, _N_ROUNDS)
    return mixture


def held_out_number(counts: csr_array, codes: NDArray[np.integer], rng: np.random.Generator) -> int:
    """Number of groups, by the likelihood of nuclei that the fit has not seen.

    Three times, groups are joined down to one on two thirds of the nuclei, and each mixture on the way is judged on the other third.
    Of the numbers of groups within one standard error of the best, the smallest is taken. It must pay for no profile in advance, so it
    also works at the few transcripts where the evidence asks for more than the nuclei can give.
    """
    fold = rng.permutation(counts.shape[0]) % _N_FOLDS
    scores: list[dict[int, NDArray[np.float64]]] = []
    for left_out in range(_N_FOLDS):
        seen, held_out = np.flatnonzero(fold != left_out), np.flatnonzero(fold == left_out)
        _, start = np.unique(codes[seen], return_inverse=True)
        scores.append({len(m.frequencies): m.log_likelihood(counts[held_out]) for m in _path(counts[seen], start)})
    numbers = sorted(set.intersection(*(set(score) for score in scores)))
    likelihood = {number: np.concatenate([score[number] for score in scores]) for number in numbers}
    best = max(numbers, key=lambda number: float(likelihood[number].sum()))
    for number in numbers:
        loss = likelihood[best] - likelihood[number]
        if loss.sum() <= loss.std() * np.sqrt(len(loss)):
            return number
    return best


def _path(counts: csr_array, codes: NDArray[np.integer]) -> Iterator[Mixture]:
    """Mixtures of ever fewer groups, down to one."""
    average = _average(counts)
    mixture, membership = _maximise(counts, np.eye(int(codes.max()) + 1)[codes], average, _N_ROUNDS)
    yield mixture
    while len(mixture.frequencies) > 1:
        _, one, other = _best_join(_independent(counts, mixture), membership, average)
        mixture, membership = _join(counts, membership, average, one, other)
        yield mixture


def _average(counts: csr_array) -> NDArray[np.float64]:
    average = np.asarray(counts.sum(axis=0)).ravel() + 1.0
    result: NDArray[np.float64] = average / average.sum()
    return result


def _join(
    counts: csr_array, membership: NDArray[np.float64], average: NDArray[np.float64], one: int, other: int
) -> tuple[Mixture, NDArray[np.float64]]:
    joined = np.delete(membership, other, axis=1)
    joined[:, one] += membership[:, other]
    return _maximise(counts, joined, average, _N_ROUNDS_BETWEEN)


def _maximise(
    counts: csr_array, membership: NDArray[np.float64], average: NDArray[np.float64], n_rounds: int
) -> tuple[Mixture, NDArray[np.float64]]:
    for _ in range(n_rounds):
        compositions = np.asarray(counts.T @ membership).T + _PROFILE_PRIOR * average
        compositions /= compositions.sum(axis=1, keepdims=True)
        frequencies = membership.sum(axis=0) + 1.0
        mixture = Mixture((1 - _AMBIENT) * compositions + _AMBIENT * average, frequencies / frequencies.sum())
        membership = mixture.posterior(counts)
    return mixture, membership


def _independent(counts: csr_array, mixture: Mixture) -> csr_array:
    """Counts scaled down to as many independent transcripts as they are worth.

    Nuclei of one group differ more than multinomial chance. With a Dirichlet of concentration A, T transcripts of a nucleus tell as
    much about its group's profile as T (A + 1) / (A + T) independent ones; without this, large counts would split every group.
    """
    concentration = likeliest_concentration(counts, mixture.compositions, mixture.frequencies)
    if np.isinf(concentration):
        return counts
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scaled = counts.copy()
    scaled.data *= np.repeat((concentration + 1) / (concentration + totals), np.diff(counts.indptr))
    return scaled


def _best_join(counts: csr_array, membership: NDArray[np.float64], average: NDArray[np.float64]) -> tuple[float, int, int]:
    """Gain in log evidence of the best join, and the two groups."""
    totals = np.asarray(counts.T @ membership).T
    sizes = membership.sum(axis=0)
    alone = _log_evidence(totals, average) + gammaln(1.0 + sizes)
    best = (-np.inf, 0, 1)
    for one in range(len(sizes) - 1):
        others = np.arange(one + 1, len(sizes))
        joined = _log_evidence(totals[one] + totals[others], average) + gammaln(1.0 + sizes[one] + sizes[others])
        gains = joined - alone[one] - alone[others]
        at = int(gains.argmax())
        if gains[at] > best[0]:
            best = (float(gains[at]), one, int(others[at]))
    return best


def _log_evidence(totals: NDArray[np.float64], average: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log probability of totals (K, G) under a composition from a Dirichlet around `average`."""
    prior = _EVIDENCE_CONCENTRATION * average
    total = _EVIDENCE_CONCENTRATION + totals.sum(axis=-1)
    result: NDArray[np.float64] = (
        (gammaln(prior + totals) - gammaln(prior)).sum(axis=-1) + gammaln(_EVIDENCE_CONCENTRATION) - gammaln(total)
    )
    return result
