"""Poisson likelihood of molecules under the mixture of candidate cells and noise."""

from __future__ import annotations

import torch
from torch import Tensor

from sjg.training._model import CompetitionModel
from sjg.training._state import CellState


def candidate_rates(state: CellState, candidate: Tensor, in_nucleus: Tensor, log_cytoplasm: Tensor) -> Tensor:
    """(P, M) molecules of any gene per pixel that each candidate would put at each point."""
    factor = torch.where(in_nucleus, torch.zeros_like(log_cytoplasm), log_cytoplasm).exp()
    return state.density[candidate] * factor[:, None]


def gene_probability(state: CellState, candidate: Tensor, gene: Tensor) -> Tensor:
    """(P, M) probability of each point's gene under the profile of each candidate."""
    index, weight = state.leading_types()
    profile = state.profiles[index[candidate], gene[:, None, None]]
    return (weight[candidate] * profile).sum(-1)


def molecule_rates(
    state: CellState,
    log_weight: Tensor,
    candidate: Tensor,
    gene: Tensor,
    in_nucleus: Tensor,
    model: CompetitionModel,
    *,
    probability: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Rate of each molecule's gene at its place, by source.

    Parameters
    ----------
    state
        Estimates of the cells.
    log_weight
        (P, M + 1) log weights of candidates and background.
    candidate
        (P, M) cells.
    gene
        (P,) genes.
    in_nucleus
        (P,) bool.
    model
        Holds the ratio of densities in cytoplasm and nucleus, and the rate of noise.
    probability
        (P, M) probability of the gene under each candidate; None takes that of the candidate's types.

    Returns
    -------
    (P, M) rate by candidate and (P,) rate of noise, which falls everywhere.
    """
    rate = log_weight[:, :-1].exp() * candidate_rates(state, candidate, in_nucleus, model.log_cytoplasm)
    if probability is None:
        probability = gene_probability(state, candidate, gene)
    return rate * probability, model.noise_rate * state.ambient[gene]


def expected_count(
    state: CellState, log_weight: Tensor, candidate: Tensor, in_nucleus: Tensor, model: CompetitionModel, area_px2: float
) -> Tensor:
    """Integral of the rate over an area of which the points are a uniform sample."""
    rate = (log_weight[:, :-1].exp() * candidate_rates(state, candidate, in_nucleus, model.log_cytoplasm)).sum(1)
    return (rate.mean() + model.noise_rate) * area_px2
