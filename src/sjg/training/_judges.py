"""Whose is it? Two ways of judging the pixels and molecules of a tile."""

from __future__ import annotations

from copy import copy
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sjg.networks import ClaimNet, load_claim_net
from sjg.training._claims import candidate_probability, claiming, claims_of, crop_bounds, gather_evidence
from sjg.training._crops import N_NEAREST, REACH_RADII, STEP_RADII
from sjg.training._likelihood import molecule_rates
from sjg.training._log_ratio import log_ratio
from sjg.training._model import CompetitionModel
from sjg.training._own_profiles import OwnProfiles
from sjg.training._parameters import Parameters
from sjg.training._plan import POINTS_AT_ONCE, compute_dtype
from sjg.training._scene import measure_scene
from sjg.training._state import CellState
from sjg.training._tissue import Points, Tissue, TissueView
from sjg.training._windows import Window


class Judge(Protocol):
    """Gives molecules and pixels their probabilities."""

    tissue: TissueView
    state: CellState

    def of(self, tissue: Tissue, window: Window) -> tuple[Judge, NDArray[np.int64]]:
        """A judge of the points of one window that holds copies of all that it asks for, so that it may work elsewhere.

        Parameters
        ----------
        tissue
            The whole tissue.
        window
            A tile.

        Returns
        -------
        The judge, which numbers nuclei and molecules anew, and the index in the whole tissue of each of its nuclei.
        """
        ...

    def __call__(self, window: Window, inside: NDArray[np.int64], molecules: Points, pixels: Points) -> tuple[Tensor, Tensor]:
        """Probabilities of the candidates and, last, of none.

        Parameters
        ----------
        window
            The window that the points' pixels refer to.
        inside
            (N,) indices of the molecules.
        molecules, pixels
            The N molecules and P pixels with their candidates.

        Returns
        -------
        (N, M + 1) and (P, M + 1).
        """
        ...


class ClaimJudge:
    """Judges by the claims of the network that was trained on simulated tissue.

    Parameters
    ----------
    tissue
        Molecules and nuclei.
    state
        Estimates of the cells.
    parameters
        Settings.
    own
        Profiles of single cells; None takes those of their types.
    net
        Trained network; None takes the one that comes with the package, which every process loads for itself.
    """

    tissue: TissueView

    def __init__(
        self, tissue: Tissue, state: CellState, parameters: Parameters, *, own: OwnProfiles | None = None, net: ClaimNet | None = None
    ) -> None:
        self.tissue, self.state, self.own = tissue, state, own
        self._n_candidates, self._n_orientations = parameters.n_candidates, parameters.n_orientations
        self._given_net, self._precision = net, parameters.precision
        self._scene = measure_scene(tissue, state)

    def of(self, tissue: Tissue, window: Window) -> tuple[ClaimJudge, NDArray[np.int64]]:
        """See :class:`Judge`."""
        low, high = np.array([window.y0, window.x0]), np.array([window.y0 + window.height, window.x0 + window.width])
        near = claiming(tissue.nuclei, low, high)
        seen = window.grown(tissue.reach_margin_px)
        if len(near):
            # a lattice node may lie one step beyond the crops
            seen = seen.joined(_covering(*crop_bounds(tissue.nuclei, near)).grown(1 + int(np.ceil(STEP_RADII * tissue.radius_px))))
        part = tissue.part(seen, max(self._n_candidates, N_NEAREST))
        judge = copy(self)
        judge.tissue, judge.state = part.tissue, self.state.of(part.nucleus)
        judge.own = None if self.own is None else self.own.of(part.nucleus, part.molecule)
        return judge, part.nucleus

    @property
    def _net(self) -> ClaimNet:
        net = (self._given_net or load_claim_net()).to(self.state.density.device)
        net.compute_dtype = compute_dtype(self._precision)
        return net

    @torch.no_grad()
    def __call__(self, window: Window, inside: NDArray[np.int64], molecules: Points, pixels: Points) -> tuple[Tensor, Tensor]:
        """See :class:`Judge`."""
        tissue, state, net = self.tissue, self.state, self._net
        reach_px = REACH_RADII * tissue.radius_px
        cells = np.unique(np.concatenate([p.candidate[p.signed_px <= reach_px] for p in (molecules, pixels)]))
        seen = tissue.molecules_in(_covering(*crop_bounds(tissue.nuclei, cells))) if len(cells) else inside[:0]
        evidence = gather_evidence(tissue, state, self.own, seen, self._n_candidates)
        claims = claims_of(net, tissue.nuclei, cells, evidence, state, self._scene, n_orientations=self._n_orientations)
        place = claims.at(pixels.yx_px, pixels.candidate, pixels.signed_px, molecules=False)
        source = claims.at(molecules.yx_px, molecules.candidate, molecules.signed_px, molecules=True)
        gene = torch.as_tensor(tissue.molecules.gene[inside], dtype=torch.long, device=source.device)
        probability = candidate_probability(state, self.own, molecules.candidate, tissue.molecules.gene[inside], inside)
        # against all molecules, as the network was trained, and these against noise
        noise = torch.log(state.ambient / state.prior_ambient)[gene]
        source = source + net.gene_weight * (log_ratio(probability, state.prior_ambient[gene]) - noise[:, None])
        return torch.softmax(_with_none(source), 1), torch.softmax(_with_none(place), 1)


class FoldJudge:
    """Judges by the competition that was trained on this tissue.

    Molecules are split into folds; each fold is judged from an input that holds the others, and pixels take the mean over the folds.

    Parameters
    ----------
    model
        Trained model with a scorer.
    tissue
        Molecules and nuclei.
    state
        Estimates of the cells.
    parameters
        Settings.
    own
        Profiles of single cells; None takes those of their types.
    seed
        Of the folds.
    """

    tissue: TissueView

    def __init__(
        self,
        model: CompetitionModel,
        tissue: Tissue,
        state: CellState,
        parameters: Parameters,
        *,
        own: OwnProfiles | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.tissue, self.state, self.parameters, self.own, self.seed = model, tissue, state, parameters, own, seed
        #: index in the whole tissue of the molecules of a part
        self._molecule: NDArray[np.int64] | None = None

    def of(self, tissue: Tissue, window: Window) -> tuple[FoldJudge, NDArray[np.int64]]:
        """See :class:`Judge`."""
        margin = self.parameters.halo_px + max(tissue.context_margin_px, tissue.reach_margin_px)
        part = tissue.part(window.grown(margin), self.parameters.n_candidates)
        judge = copy(self)
        judge.tissue, judge.state, judge._molecule = part.tissue, self.state.of(part.nucleus), part.molecule
        judge.own = None if self.own is None else self.own.of(part.nucleus, part.molecule)
        return judge, part.nucleus

    @torch.no_grad()
    def __call__(self, window: Window, inside: NDArray[np.int64], molecules: Points, pixels: Points) -> tuple[Tensor, Tensor]:
        """See :class:`Judge`."""
        n_folds, n_slots = self.parameters.n_folds, self.parameters.n_candidates + 1
        context, near = self.tissue.context(window), self.tissue.molecules_in(window)
        device = self.state.density.device
        source, place = torch.zeros(len(molecules), n_slots, device=device), torch.zeros(len(pixels), n_slots, device=device)
        fold_of_near, fold_of_inside = self._fold_of(near), self._fold_of(inside)
        for fold in range(n_folds):
            seen = near[fold_of_near != fold] if n_folds > 1 else near
            fraction = 1 - 1 / n_folds if n_folds > 1 else 1.0
            mine = np.flatnonzero(fold_of_inside == fold)
            points = Points.join(molecules[mine], pixels)
            if len(points) == 0:
                continue
            batch = self.tissue.batch(window, context, seen, fraction, points, self.state)
            log_weight = self.model.log_weights(batch, self.state.log_profiles, self.state.log_prior, chunk=POINTS_AT_ONCE)
            source[torch.as_tensor(mine, device=device)] = self._source(log_weight[: len(mine)], molecules[mine], inside[mine])
            place += log_weight[len(mine) :].exp() / n_folds
        return source, place

    def _fold_of(self, molecule: NDArray[np.int64]) -> NDArray[np.int64]:
        return fold_of(molecule if self._molecule is None else self._molecule[molecule], self.seed, self.parameters.n_folds)

    def _source(self, log_weight: Tensor, points: Points, index: NDArray[np.int64]) -> Tensor:
        """(N, M + 1) probabilities of molecules."""
        device = log_weight.device
        candidate = torch.as_tensor(points.candidate, device=device)
        genes = self.tissue.molecules.gene[index]
        gene = torch.as_tensor(genes, dtype=torch.long, device=device)
        in_nucleus = torch.as_tensor(points.nucleus > 0, device=device)
        probability = candidate_probability(self.state, self.own, points.candidate, genes, index)
        by_cell, noise = molecule_rates(self.state, log_weight, candidate, gene, in_nucleus, self.model, probability=probability)
        rates = torch.cat([by_cell, noise[:, None]], 1)
        return rates / rates.sum(1, keepdim=True)


def fold_of(molecule: NDArray[np.int64], seed: int, n_folds: int) -> NDArray[np.int64]:
    """Fold of each molecule, at random but from its index alone: nothing to store, and the same in every process."""
    # SplitMix64; the product wraps round
    x = molecule.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) % np.uint64(n_folds)).astype(np.int64)


def _with_none(log_odds: Tensor) -> Tensor:
    """(P, M + 1): log odds against none, and none itself."""
    return torch.cat([log_odds, log_odds.new_zeros(len(log_odds), 1)], 1)


def _covering(low_px: NDArray[np.floating], high_px: NDArray[np.floating]) -> Window:
    low, high = np.floor(low_px).astype(int), np.ceil(high_px).astype(int)
    return Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
