"""Claims of cells: the pretrained network applied around nuclei, and its value at pixels and molecules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sjg.networks import ClaimNet
from sjg.training._crops import REACH_RADII, SIDE, STEP_RADII, Lattice, MoleculeEvidence, crop_origins
from sjg.training._likelihood import gene_probability
from sjg.training._log_ratio import log_ratio
from sjg.training._nuclei import Nuclei, nearest_candidates
from sjg.training._own_profiles import OwnProfiles
from sjg.training._plan import CROPS_AT_ONCE
from sjg.training._scene import Scene
from sjg.training._state import CellState
from sjg.training._tissue import TissueView

#: log odds of what lies out of reach
_FAR_LOGIT = -20.0
_MAX_LOG_DENSITY = 3.0
#: quarter turns, then mirrored or not; few of them are spread over the circle
_VIEWS = ((0, False), (2, False), (1, True), (3, True), (1, False), (3, False), (0, True), (2, True))


@dataclass(frozen=True)
class Claims:
    """Claim maps of some cells.

    Parameters
    ----------
    nuclei
        All n nuclei.
    slot
        (n,) row of each nucleus in `maps`, -1 where it has none.
    maps
        (C, 2, SIDE, SIDE) log odds, see :class:`sjg.networks.ClaimNet`.
    """

    nuclei: Nuclei
    slot: NDArray[np.int64]
    maps: Tensor

    def at(self, yx_px: NDArray[np.floating], candidate: NDArray[np.int64], signed_px: NDArray[np.floating], *, molecules: bool) -> Tensor:
        """(P, M) log odds of the candidates at points, interpolated between lattice cells; very low for cells out of reach.

        Parameters
        ----------
        yx_px
            (P, 2) points.
        candidate
            (P, M) nuclei from 0.
        signed_px
            (P, M) distances to their outlines.
        molecules
            Whether the points are molecules or places.
        """
        step_px = STEP_RADII * self.nuclei.median_radius_px
        row = self.slot[candidate]
        known = (row >= 0) & (np.asarray(signed_px) <= REACH_RADII * self.nuclei.median_radius_px)
        origin = crop_origins(self.nuclei, candidate.reshape(-1), step_px).reshape(*candidate.shape, 2)
        position = np.clip(np.asarray(yx_px)[:, None, :] / step_px - 0.5 - origin, 0, SIDE - 1.001)
        low = np.floor(position).astype(np.int64)
        device = self.maps.device
        weight_y, weight_x = torch.as_tensor((position - low).astype(np.float32), device=device).unbind(-1)
        corner = torch.as_tensor(((np.maximum(row, 0) * 2 + int(molecules)) * SIDE + low[..., 0]) * SIDE + low[..., 1], device=device)
        flat = self.maps.reshape(-1)
        top = flat[corner] * (1 - weight_x) + flat[corner + 1] * weight_x
        bottom = flat[corner + SIDE] * (1 - weight_x) + flat[corner + SIDE + 1] * weight_x
        value = top * (1 - weight_y) + bottom * weight_y
        return value.masked_fill(torch.as_tensor(~known, device=device), _FAR_LOGIT)


def claims_of(
    net: ClaimNet,
    nuclei: Nuclei,
    cells: NDArray[np.int64],
    molecules: MoleculeEvidence,
    state: CellState,
    scene: Scene,
    *,
    n_orientations: int = 1,
) -> Claims:
    """Claims of some cells.

    Parameters
    ----------
    net
        Trained network.
    nuclei
        All n nuclei.
    cells
        (C,) nuclei from 0.
    molecules
        All molecules inside the crops of these cells.
    state
        Estimates of the cells.
    scene
        Of the whole tissue.
    n_orientations
        Turned and mirrored views of each crop whose claims are averaged, at most 8.
    """
    slot = np.full(len(nuclei), -1, np.int64)
    slot[cells] = np.arange(len(cells))
    if len(cells) == 0:
        # One map that nobody owns, so that points beyond every cell's reach can be asked about.
        return Claims(nuclei, slot, state.density.new_zeros(1, 2, SIDE, SIDE))
    lattice = Lattice(nuclei, *crop_bounds(nuclei, cells))
    typical = state.median_density
    log_density = torch.log(state.density / typical).clamp(-_MAX_LOG_DENSITY, _MAX_LOG_DENSITY).cpu().numpy()
    maps = []
    for part in np.array_split(cells, -(-len(cells) // CROPS_AT_ONCE)):
        crops = lattice.crops(part, molecules, log_density=log_density, typical_density=typical, scene=scene)
        maps.append(_mean_over_views(net, crops.to(state.density.device), n_orientations))
    return Claims(nuclei, slot, torch.cat(maps))


def _mean_over_views(net: ClaimNet, crops: Tensor, n_orientations: int) -> Tensor:
    """(C, 2, S, S) claims, averaged over views of the crops."""
    total = torch.zeros(len(crops), 2, *crops.shape[2:], device=crops.device)
    for turns, mirrored in _VIEWS[:n_orientations]:
        view = torch.rot90(crops, turns, (2, 3))
        found = net(view.flip(3) if mirrored else view)
        total += torch.rot90(found.flip(3) if mirrored else found, -turns, (2, 3))
    return total / n_orientations


def crop_bounds(nuclei: Nuclei, cells: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (y, x) in pixels of the part of the tissue that the crops of some cells cover."""
    step_px = STEP_RADII * nuclei.median_radius_px
    origin = crop_origins(nuclei, cells, step_px)
    return origin.min(0) * step_px, (origin.max(0) + SIDE) * step_px


def claiming(nuclei: Nuclei, low_px: NDArray[np.floating], high_px: NDArray[np.floating]) -> NDArray[np.int64]:
    """Nuclei from 0 that may claim a point of the rectangle with these corners (y, x), and a few more."""
    reach_px = REACH_RADII * nuclei.median_radius_px
    around = float(np.hypot(*(high_px - low_px))) / 2 + reach_px + float(nuclei.outline_px.max())
    found = np.sort(np.asarray(nuclei.tree.query_ball_point((low_px + high_px) / 2, around), np.int64))
    centre = nuclei.centre_px[found]
    away = np.hypot(*(np.maximum(low_px - centre, 0) + np.maximum(centre - high_px, 0)).T)
    nearby: NDArray[np.int64] = found[away <= reach_px + nuclei.outline_px[found].max(1) + 1]
    return nearby


def gather_evidence(
    tissue: TissueView, state: CellState, own: OwnProfiles | None, index: NDArray[np.int64], n_candidates: int
) -> MoleculeEvidence:
    """Candidates of molecules and what the molecules say for them.

    Parameters
    ----------
    tissue
        Molecules and nuclei.
    state
        Estimates of the cells.
    own
        Profiles of single cells; None takes those of their types.
    index
        (N,) molecules.
    n_candidates
        M.
    """
    yx, genes = tissue.molecules.yx_px[index], tissue.molecules.gene[index]
    candidate, signed, _ = nearest_candidates(tissue.nuclei, yx, n_candidates)
    probability = candidate_probability(state, own, candidate, genes, index)
    overall = state.prior_ambient[torch.as_tensor(genes, dtype=torch.long, device=probability.device)]
    return MoleculeEvidence(yx, candidate, signed, log_ratio(probability, overall))


def candidate_probability(
    state: CellState, own: OwnProfiles | None, candidate: NDArray[np.int64], genes: NDArray[np.integer], index: NDArray[np.int64]
) -> Tensor:
    """(N, M) probability of the genes of molecules under each of their candidates, by the cell's own expression where it is known."""
    if own is not None:
        return own.probability(state, candidate, genes, index)
    device = state.density.device
    return gene_probability(state, torch.as_tensor(candidate, device=device), torch.as_tensor(genes, dtype=torch.long, device=device))
