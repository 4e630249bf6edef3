"""Attribution of a window by any of the published methods, and the gate for the label update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sjg.attribution import SplatChannels, closed_form, gradient, optimize
from sjg.labels import attribution_gate
from sjg.training._published_features import Features
from sjg.training._published_network import PublishedNetwork
from sjg.training._published_parameters import PublishedAttribution, PublishedParameters
from sjg.training._windows import Window, tiles

#: margin of a window that only feeds the network
HALO_PX = 32


class _EachItsOwn(nn.Module):
    """Item b of the batch answers with class ``targets[b]``: several types side by side in one descent."""

    def __init__(self, model: nn.Module, targets: Sequence[int]) -> None:
        super().__init__()
        self.model, self.targets = model, list(targets)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return torch.stack([logits[b, t] for b, t in enumerate(self.targets)])[:, None]


def window_attribution(
    method: PublishedAttribution,
    network: PublishedNetwork,
    features: Features,
    window: Window,
    *,
    genes: NDArray[np.integer],
    types: Sequence[int],
    parameters: PublishedParameters,
    generator: torch.Generator,
    origin_px: tuple[int, int] | None = None,
) -> Tensor:
    """(T, n, H, W) attribution of `genes` (n) for `types` (T of 1..K) at a window, higher = more informative.

    ``closed_form`` and ``optimize`` give -log sigma, ``gradient`` the log magnitude of the derivative. For `origin_px` see
    :func:`sjg.attribution.closed_form`.
    """
    embedding = network.embedding().detach()
    with torch.no_grad():
        maps = features.maps([window], embedding)
    rows, sigma_px, grid_px = embedding[torch.as_tensor(genes)], features.sigma_px, parameters.attribution_grid_px
    found = []
    for first in range(0, len(types), parameters.attribution_chunk):
        chunk = list(types[first : first + parameters.attribution_chunk])
        if method == "closed_form":
            model = SplatChannels(network, maps, rows, sigma_px=sigma_px)
            nothing = maps.new_zeros(1, len(genes), *maps.shape[-2:])
            cells = closed_form(
                model,
                nothing,
                chunk,
                n_probes=parameters.n_probes,
                grid_px=grid_px,
                generator=generator,
                probes="interleaved",
                origin_px=origin_px,
            )[:, 0]
        elif method == "gradient":
            model = SplatChannels(network, maps, rows, sigma_px=sigma_px)
            nothing = maps.new_zeros(1, len(genes), *maps.shape[-2:])
            cells = torch.cat([gradient(model, nothing, t, grid_px=grid_px) for t in chunk])
            cells = cells.clamp_min(torch.finfo(cells.dtype).tiny).log()
        else:
            model = SplatChannels(network, maps.expand(len(chunk), -1, -1, -1), rows, sigma_px=sigma_px)
            pairs = method == "optimize_pairs"
            cells = optimize(
                _EachItsOwn(model, chunk),
                maps.new_zeros(len(chunk), len(genes), *maps.shape[-2:]),
                0,
                n_steps=parameters.attribution_steps,
                lr=parameters.attribution_lr,
                information_weight=parameters.information_weight,
                n_draws=parameters.attribution_draws,
                grid_px=grid_px,
                generator=generator,
                genes=list(range(len(genes))) if pairs else None,
                stop="mse" if pairs else "sigma",
                budget=parameters.attribution_budget,
                noise="gaussian",
                lr_decay=False,
            )
        found.append(cells)
    return torch.nn.functional.interpolate(torch.cat(found), scale_factor=grid_px, mode="nearest")


def tissue_gate(
    network: PublishedNetwork,
    features: Features,
    labels: NDArray[np.integer],
    instance_type: NDArray[np.integer],
    parameters: PublishedParameters,
    *,
    abundance: NDArray[np.floating],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Where each type passes, over the whole tissue: eight types to a byte, (ceil(K / 8), H, W).

    Parameters
    ----------
    network, features
        What is asked, and about what.
    labels, instance_type
        (H, W) dynamic labels and (n + 1,) their types: types that are far from a window are left out there.
    parameters
        The method and its knobs.
    abundance
        (K + 1, C) how much of each gene the nuclei of each type hold; row 0 is outside nuclei.
    rng
        Seed of noise and probes.
    """
    n_types = len(abundance) - 1
    genes = _most(abundance.sum(0), parameters.attribution_genes)
    chosen = _most(np.bincount(instance_type[1:], minlength=n_types + 1)[1:], parameters.attribution_types) + 1
    gate = np.full((-(-n_types // 8), *labels.shape), 255, np.uint8)
    halo = -(-HALO_PX // parameters.attribution_grid_px) * parameters.attribution_grid_px
    side = parameters.patch_size_px
    for tile in tiles(labels.shape, side):
        window = Window(tile.y0, tile.x0, side, side).grown(halo)
        present = np.intersect1d(instance_type[np.unique(window.cut(labels))], chosen)
        if len(present) == 0:
            continue
        seed = torch.Generator(device=network.embedding().device).manual_seed(int(rng.integers(2**31)))
        found = window_attribution(
            parameters.attribution,
            network,
            features,
            window,
            genes=genes,
            types=present.tolist(),
            parameters=parameters,
            generator=seed,
        )
        # Summed over genes before types are compared, as published. There the descent ends at one budget of noise for every type; here the mean of
        # each type is subtracted, which says the same: else the type with the steepest logits would dominate everywhere.
        total = found.sum(1)
        summed = np.full((n_types, window.height, window.width), np.nan, np.float32)
        summed[present - 1] = (total - total.mean((1, 2), keepdim=True)).cpu().numpy()
        passing = attribution_gate(summed, parameters.rule())[:, halo : halo + tile.height, halo : halo + tile.width]
        gate[:, tile.y0 : tile.y0 + tile.height, tile.x0 : tile.x0 + tile.width] = np.packbits(passing, axis=0)
    return gate


def _most(amount: NDArray[np.floating] | NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """Indices of the `n` largest, in their own order; 0 = all."""
    order = np.argsort(-amount, kind="stable")
    return np.sort(order[: n or len(order)])
