"""What one molecule says for a cell."""

from __future__ import annotations

import torch
from torch import Tensor

#: part of the molecules in any cell that come from the tissue at large: bounds what one molecule can say
AMBIENT_SHARE = 0.05


def log_ratio(probability: Tensor, overall: Tensor) -> Tensor:
    """Log ratio of a gene's probability in a cell to that in the whole tissue, bounded below.

    Parameters
    ----------
    probability
        (N, M) probability of each molecule's gene in its candidates.
    overall
        (N,) its share of all molecules.
    """
    return torch.log((1 - AMBIENT_SHARE) * probability / overall[:, None] + AMBIENT_SHARE)
