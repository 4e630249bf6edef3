"""Gene importance per cell type from the trained network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sjg.attribution import GeneImportance, molecule_attribution
from sjg.core import InputError
from sjg.training._model import Batch, CompetitionModel
from sjg.training._parameters import Parameters
from sjg.training._state import CellState
from sjg.training._tissue import Tissue
from sjg.training._windows import Window

_PATCH_PX = 128
#: backward passes of a run are at most this many, however many types there are
_MAX_PASSES = 1200


class NetworkHead(torch.nn.Module):
    """The network as a function of the splat alone, for :mod:`sjg.attribution`.

    Parameters
    ----------
    network
        The trained U-Net.
    context
        (1, 3, H, W) context of the patch.
    scale
        Factor between the splat and the network's input.
    """

    def __init__(self, network: torch.nn.Module, context: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.network, self.context, self.scale = network, context, scale

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, D, H, W) splat -> (B, K + 1, H, W) logits."""
        logits: torch.Tensor = self.network(maps * self.scale, self.context.expand(len(maps), -1, -1, -1))[0]
        return logits


def gene_importance(
    model: CompetitionModel,
    tissue: Tissue,
    state: CellState,
    parameters: Parameters,
    *,
    rng: np.random.Generator,
    types: list[int] | None = None,
) -> NDArray[np.float32]:
    """Importance of every gene for the map of every type (closed form of CID), weighted by where the type is.

    A transcript counts for a type by the network's probability of the type at its pixel times that of the nearest cell being of the type.
    The first alone drowns a rare type in the many pixels where it has a small chance. How many transcripts of a gene a type has is counted
    by the cells alone and shrunk to the types' profiles (``profile_strength``): without it ranks of rare types are chance.

    Parameters
    ----------
    model
        Trained model with a network.
    tissue
        Molecules and nuclei.
    state
        Estimates of the cells.
    parameters
        ``n_importance_patches`` and ``n_probes``.
    rng
        Draws patches and probes.
    types
        Indices of the types wanted; None = all.

    Returns
    -------
    (G, T) float32, higher = more informative. See :class:`sjg.attribution.GeneImportance`.

    Raises
    ------
    InputError
        The model was trained without its network.
    """
    wanted = list(range(state.posterior.shape[1])) if types is None else list(types)
    gathered = gather_importance(model, tissue, state, parameters, rng=rng, types=wanted)
    found = gathered.result(composition=state.profiles, strength=parameters.profile_strength)
    return found[:, wanted].numpy().astype(np.float32)


def gather_importance(
    model: CompetitionModel,
    tissue: Tissue,
    state: CellState,
    parameters: Parameters,
    *,
    rng: np.random.Generator,
    types: list[int],
    by_cells: bool = True,
) -> GeneImportance:
    """What :func:`gene_importance` is computed from, for all types; effects are measured for `types` alone.

    Transcripts are counted by the posterior of the nearest cell; without `by_cells`, times the network's probability, as their effects are.
    """
    if model.network is None:
        raise InputError("Gene importance comes from the network; train with use_network=True.")
    n_types = state.posterior.shape[1]
    gathered = GeneImportance(len(tissue.molecules.gene_names), n_types)
    n_patches = max(1, min(parameters.n_importance_patches, _MAX_PASSES // max(len(types) * parameters.n_probes, 1)))
    jobs = patches_by_type(tissue, state, types, n_patches, rng)
    generator = torch.Generator(device=state.density.device).manual_seed(int(rng.integers(2**31)))
    for window, present in jobs:
        found = patch_effect(model, tissue, state, window, present, parameters, generator)
        # Where a type lies is known also in the patches of others; without those its share would be too small.
        everywhere = found.effect.new_full((n_types, len(found.gene)), torch.nan)
        everywhere[present] = found.effect
        weight = found.probability * found.posterior
        gathered.add(everywhere, gene=found.gene, weight=weight, presence=found.posterior if by_cells else weight)
    return gathered


def patch_inputs(
    model: CompetitionModel, tissue: Tissue, state: CellState, window: Window
) -> tuple[torch.Tensor, torch.Tensor, NetworkHead, float, Batch]:
    """Splat, embedding, head and blur of the network at a window: what the attribution functions take."""
    if model.network is None:
        raise InputError("Attribution needs the network; train with use_network=True.")
    inputs = tissue.molecules_in(window)
    points = tissue.points(np.zeros((0, 2), np.float32), window)
    batch = tissue.batch(window, tissue.context(window), inputs, 1.0, points, state)
    with torch.no_grad():
        maps = model.raster(batch) * model.density
        embedding = model.network.gene_embedding().detach()
    head = NetworkHead(model.network, batch.context[None], 1.0 / model.density)
    return maps, embedding, head, model.raster_sigma_px, batch


@dataclass(frozen=True)
class PatchEffect:
    """Of N molecules of a patch, K types of which T were asked for.

    Parameters
    ----------
    effect
        (T, N) squared effect on the map of each type.
    gene
        (N,) gene.
    probability, posterior
        (K, N) by the network at the molecule's pixel, and of the nearest cell.
    """

    effect: torch.Tensor
    gene: torch.Tensor
    probability: torch.Tensor
    posterior: torch.Tensor


def patch_effect(
    model: CompetitionModel,
    tissue: Tissue,
    state: CellState,
    window: Window,
    types: list[int],
    parameters: Parameters,
    generator: torch.Generator,
) -> PatchEffect:
    """Effects of the molecules of a patch on the maps of `types`, and where they lie."""
    maps, embedding, head, sigma_px, batch = patch_inputs(model, tissue, state, window)
    effect = molecule_attribution(
        head,
        maps,
        embedding,
        [t + 1 for t in types],
        coords_px=batch.coords_px,
        gene=batch.gene,
        batch_index=torch.zeros_like(batch.gene),
        sigma_px=sigma_px,
        n_probes=parameters.n_probes,
        generator=generator,
    )
    with torch.no_grad():
        probability = torch.softmax(head(maps)[0], 0)
        pixel = batch.coords_px.floor().long()
    yx_px = batch.coords_px.cpu().numpy() + np.array([window.y0, window.x0], np.float32)
    posterior = nearest_posterior(tissue, state, window, yx_px)
    return PatchEffect(effect, batch.gene, probability[1:, pixel[:, 0], pixel[:, 1]], posterior)


def nearest_posterior(tissue: Tissue, state: CellState, window: Window, yx_px: NDArray[np.floating]) -> torch.Tensor:
    """(K, P) posterior of the types of the nucleus nearest to each (P, 2) position inside the window; 0 beyond its reach."""
    points = tissue.points(yx_px, window)
    near = torch.as_tensor(points.signed_px[:, 0] <= tissue.reach_px, device=state.posterior.device)
    nearest = torch.as_tensor(points.candidate[:, 0], device=state.posterior.device)
    return (state.posterior[nearest] * near[:, None]).T


def patches_by_type(
    tissue: Tissue, state: CellState, types: list[int], n_patches: int, rng: np.random.Generator
) -> list[tuple[Window, list[int]]]:
    """For every type `n_patches` patches around cells drawn by their posterior of that type; patches are shared where they coincide."""
    height, width = tissue.shape
    side_y, side_x = min(_PATCH_PX, height), min(_PATCH_PX, width)
    corner = np.clip(
        (tissue.nuclei.centre_px // _PATCH_PX).astype(np.int64) * _PATCH_PX, 0, np.array([max(height - side_y, 0), max(width - side_x, 0)])
    )
    corners, patch_of = np.unique(corner, axis=0, return_inverse=True)
    posterior = state.posterior.cpu().numpy().astype(float)
    chosen: dict[int, list[int]] = {}
    for t in types:
        mass = np.bincount(patch_of.ravel(), posterior[:, t], len(corners)) + 1e-12
        n = min(n_patches, len(corners))
        # Mostly the patches richest in the type, with a little chance so that ties do not favour a corner of the tissue.
        order = np.argsort(-mass * rng.uniform(0.8, 1.0, len(mass)), kind="stable")[:n]
        for patch in order:
            chosen.setdefault(int(patch), []).append(t)
    return [(Window(int(corners[p][0]), int(corners[p][1]), side_y, side_x), present) for p, present in sorted(chosen.items())]
