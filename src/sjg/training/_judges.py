"""Whose is it? Two ways of judging the pixels and molecules of a tile."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sjg.networks import ClaimNet
from sjg.training._claims import claims_of, crop_bounds, gather_evidence
from sjg.training._crops import REACH_RADII
from sjg.training._log_ratio import log_ratio
from sjg.training._own_profiles import OwnProfiles
from sjg.training._parameters import Parameters
from sjg.training._scene import measure_scene
from sjg.training._state import CellState
from sjg.training._tissue import Points, Tissue
from sjg.training._windows import Window


class Judge(Protocol):
    """Gives the molecules and pixels of a tile their probabilities."""

    def __call__(self, window: Window, inside: NDArray[np.int64], molecules: Points, pixels: Points) -> tuple[Tensor, Tensor]:
        """Probabilities of the candidates and, last, of none.

        Parameters
        ----------
        window
            The tile.
        inside
            (N,) its molecules.
        molecules, pixels
            The same N molecules and P pixels with their candidates.

        Returns
        -------
        (N, M + 1) and (P, M + 1).
        """
        ...


class ClaimJudge:
    """Judges by the claims of the pretrained network.

    Parameters
    ----------
    net
        Trained network.
    tissue
        Molecules and nuclei.
    state
        Estimates of the cells.
    parameters
        Settings.
    own
        Profiles of single cells; None takes those of their types.
    """

    def __init__(self, net: ClaimNet, tissue: Tissue, state: CellState, parameters: Parameters, *, own: OwnProfiles | None) -> None:
        self.net, self.tissue, self.state, self.parameters, self.own = net, tissue, state, parameters, own
        self.scene = measure_scene(tissue, state)

    def __call__(self, window: Window, inside: NDArray[np.int64], molecules: Points, pixels: Points) -> tuple[Tensor, Tensor]:
        """See :class:`Judge`."""
        tissue, state = self.tissue, self.state
        reach_px = REACH_RADII * tissue.radius_px
        near = [p.candidate[p.signed_px <= reach_px] for p in (molecules, pixels)]
        cells = np.unique(np.concatenate(near))
        seen = tissue.molecules_in(_covering(*crop_bounds(tissue.nuclei, cells))) if len(cells) else inside[:0]
        evidence = gather_evidence(tissue, state, self.own, seen, self.parameters.n_candidates)
        claims = claims_of(self.net, tissue.nuclei, cells, evidence, state, self.scene)
        place = claims.at(pixels.yx_px, pixels.candidate, pixels.signed_px, molecules=False)
        source = claims.at(molecules.yx_px, molecules.candidate, molecules.signed_px, molecules=True)
        own = gather_evidence(tissue, state, self.own, inside, self.parameters.n_candidates).log_ratio
        gene = torch.as_tensor(tissue.molecules.gene[inside], dtype=torch.long, device=source.device)
        noise = log_ratio(state.ambient[gene][:, None], state.prior_ambient[gene])
        weighed = torch.cat([source, source.new_zeros(len(source), 1)], 1) + self.net.gene_weight * torch.cat([own, noise], 1)
        return torch.softmax(weighed, 1), torch.softmax(torch.cat([place, place.new_zeros(len(place), 1)], 1), 1)


def _covering(low_px: NDArray[np.floating], high_px: NDArray[np.floating]) -> Window:
    low, high = np.floor(low_px).astype(int), np.ceil(high_px).astype(int)
    return Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
