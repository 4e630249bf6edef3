"""Attribution of a trained model on a tissue: gene importance by any method, and maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sjg.attribution import SplatChannels, closed_form, gradient, optimize
from sjg.core import InputError
from sjg.training._importance import gene_importance, nearest_posterior, patch_inputs, patches_by_type
from sjg.training._model import CompetitionModel
from sjg.training._parameters import Parameters
from sjg.training._state import CellState
from sjg.training._tissue import Tissue
from sjg.training._windows import Window, tiles

Method = Literal["closed_form", "optimize", "gradient"]
METHODS: tuple[Method, ...] = ("closed_form", "optimize", "gradient")
#: genes that share one dense input, which bounds the memory
_GENE_CHUNK = 64
#: margin of a tile of a map: a pixel feels outputs as far away as the network reaches (41 px), and those feel inputs around them
MAP_HALO_PX = 64


def importance_by(
    method: Method,
    model: CompetitionModel,
    tissue: Tissue,
    state: CellState,
    parameters: Parameters,
    *,
    genes: list[int],
    types: list[int],
    n_steps: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(genes, types) importance.

    ``closed_form`` is :func:`gene_importance`. The other two average their maps (-log sigma, and the log of the gradient's magnitude) over
    pixels, with the weights of :func:`gene_importance`.
    """
    if method == "closed_form":
        return gene_importance(model, tissue, state, parameters, rng=rng, types=types)[genes]
    total = np.zeros((len(genes), len(types)))
    mass = np.zeros(len(types))
    for window, present in patches_by_type(tissue, state, types, parameters.n_importance_patches, rng):
        for t in present:
            column = types.index(t)
            weight = _type_weight(model, tissue, state, window, t)
            for chunk, maps in _maps(
                method, model, tissue, state, window, t, genes, n_steps=n_steps, n_probes=parameters.n_probes, rng=rng
            ):
                total[chunk, column] += (maps * weight).sum((1, 2))
            mass[column] += weight.sum()
    return (total / np.maximum(mass, 1e-12)).astype(np.float32)


def attribution_maps(
    method: Method,
    model: CompetitionModel,
    tissue: Tissue,
    state: CellState,
    parameters: Parameters,
    *,
    genes: list[int],
    target: int,
    n_steps: int,
    rng: np.random.Generator,
    on_tile: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """(genes, H, W) attribution of one type over the whole tissue, tile by tile with margins."""
    out = np.zeros((len(genes), *tissue.shape), np.float32)
    seed = int(rng.integers(2**31))
    windows = list(tiles(tissue.shape, parameters.patch_size_px))
    for done, window in enumerate(windows):
        halo = window.grown(MAP_HALO_PX)
        rows = slice(window.y0, window.y0 + window.height)
        columns = slice(window.x0, window.x0 + window.width)
        inner = slice(MAP_HALO_PX, -MAP_HALO_PX)
        # every tile starts from the same draws, whose place is the tissue: tiles with draws of their own would show
        draws = np.random.default_rng(seed)
        for chunk, maps in _maps(
            method, model, tissue, state, halo, target, genes, n_steps=n_steps, n_probes=parameters.n_probes, rng=draws
        ):
            out[chunk, rows, columns] = maps[:, inner, inner]
        if on_tile is not None:
            on_tile(done + 1, len(windows))
    return out


def _maps(
    method: Method,
    model: CompetitionModel,
    tissue: Tissue,
    state: CellState,
    window: Window,
    target: int,
    genes: list[int],
    *,
    n_steps: int,
    n_probes: int,
    rng: np.random.Generator,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Chunks of genes and their (genes, H, W) maps at a window."""
    maps, embedding, head, sigma_px, _ = patch_inputs(model, tissue, state, window)
    generator = torch.Generator(device=maps.device).manual_seed(int(rng.integers(2**31)))
    for start in range(0, len(genes), _GENE_CHUNK):
        chosen = genes[start : start + _GENE_CHUNK]
        channels = SplatChannels(head, maps, embedding[chosen], sigma_px=sigma_px)
        zeros = maps.new_zeros(1, len(chosen), *maps.shape[2:])
        if method == "closed_form":
            found = closed_form(
                channels, zeros, target + 1, n_probes=n_probes, generator=generator, probes="interleaved", origin_px=(window.y0, window.x0)
            )
        elif method == "optimize":
            found = optimize(channels, zeros, target + 1, n_steps=n_steps, generator=generator)
        elif method == "gradient":
            found = torch.log(gradient(channels, zeros, target + 1).clamp(min=1e-12))
        else:
            raise InputError(f"method={method!r}; choose one of {', '.join(METHODS)}.")
        yield slice(start, start + len(chosen)), found[0].detach().cpu().numpy()


def _type_weight(model: CompetitionModel, tissue: Tissue, state: CellState, window: Window, t: int) -> NDArray[np.float32]:
    """(H, W) weights of the pixels, as those of transcripts in :func:`gene_importance`."""
    maps, _, head, _, _ = patch_inputs(model, tissue, state, window)
    with torch.no_grad():
        probability = torch.softmax(head(maps)[0], 0)[t + 1]
    y, x = np.mgrid[window.y0 : window.y0 + window.height, window.x0 : window.x0 + window.width] + 0.5
    nearest = nearest_posterior(tissue, state, window, np.stack([y.ravel(), x.ravel()], 1))[t].view_as(probability)
    weight: NDArray[np.float32] = (probability * nearest).cpu().numpy()
    return weight
