"""A small network, shared by all candidates, that scores a cell's claim to a point."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CandidateScorer(nn.Module):
    """Scores of the candidate cells of a point and of the background.

    Parameters
    ----------
    n_candidate
        Features of a (point, candidate) pair.
    n_background
        Features of a point.
    n_hidden
        Width of the two hidden layers.
    """

    def __init__(self, n_candidate: int, n_background: int, *, n_hidden: int = 24) -> None:
        super().__init__()
        self.candidate = _mlp(n_candidate, n_hidden)
        self.background = _mlp(n_background, n_hidden)

    def forward(self, candidate: Tensor, background: Tensor) -> Tensor:
        """Scores.

        Parameters
        ----------
        candidate
            (P, M, n_candidate).
        background
            (P, n_background).

        Returns
        -------
        (P, M + 1) unnormalised log weights, background last.
        """
        return torch.cat([self.candidate(candidate)[..., 0], self.background(background)], 1)


def _mlp(n_in: int, n_hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, n_hidden),
        nn.LeakyReLU(0.1),
        nn.Linear(n_hidden, n_hidden),
        nn.LeakyReLU(0.1),
        nn.Linear(n_hidden, 1),
    )
