"""Gene importance and attribution maps of the published network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sjg.attribution import GeneImportance, molecule_attribution
from sjg.training._attribution import MAP_HALO_PX
from sjg.training._published_features import Features
from sjg.training._published_gate import window_attribution
from sjg.training._published_network import PublishedNetwork
from sjg.training._published_parameters import PublishedAttribution, PublishedParameters
from sjg.training._windows import Window, tiles

#: backward passes of a run are at most this many, however many types there are
_MAX_PASSES = 1200
_GENE_CHUNK = 64


def published_importance(
    network: PublishedNetwork,
    features: Features,
    nuclei_labels: NDArray[np.integer],
    instance_type: NDArray[np.integer],
    parameters: PublishedParameters,
    *,
    n_types: int,
    rng: np.random.Generator,
    types: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """(G, T) importance of every gene or channel for types (0..K - 1, None = all), as :class:`sjg.attribution.GeneImportance` defines it.

    The units whose squared effects are summed are transcripts, or molecules drawn from the densities of channels.
    """
    wanted = list(range(n_types)) if types is None else list(types)
    importance = GeneImportance(len(features.names), len(wanted))
    embedding = network.embedding().detach()
    seed = torch.Generator(device=embedding.device).manual_seed(int(rng.integers(2**31)))
    per_type = max(1, min(parameters.n_importance_patches, _MAX_PASSES // max(len(wanted) * parameters.n_probes, 1)))
    for window, present in _patches_by_type(nuclei_labels, instance_type, wanted, per_type, parameters.patch_size_px):
        position, unit = features.units(window, rng)
        coords, gene = torch.as_tensor(position, device=embedding.device), torch.as_tensor(unit, device=embedding.device)
        with torch.no_grad():
            maps = features.maps([window], embedding)
            probability = torch.softmax(network(maps)[0], 0)
        effect = molecule_attribution(
            network,
            maps,
            embedding,
            [wanted[i] + 1 for i in present],
            coords_px=coords,
            gene=gene,
            batch_index=torch.zeros_like(gene),
            sigma_px=features.sigma_px,
            n_probes=parameters.n_probes,
            generator=seed,
        )
        pixel = coords.floor().long()
        # Where a type lies is known from the forward pass also in the patches of others; without those its share would be too small.
        everywhere = effect.new_full((len(wanted), len(gene)), torch.nan)
        everywhere[present] = effect
        importance.add(everywhere, gene=gene, weight=probability[[t + 1 for t in wanted]][:, pixel[:, 0], pixel[:, 1]])
    return importance.result().cpu().numpy().astype(np.float32)


def published_importance_by(
    method: PublishedAttribution,
    network: PublishedNetwork,
    features: Features,
    nuclei_labels: NDArray[np.integer],
    instance_type: NDArray[np.integer],
    parameters: PublishedParameters,
    *,
    genes: Sequence[int],
    types: Sequence[int],
    n_types: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(genes, types) importance by any method; those but ``closed_form`` are means of their maps, weighted by the type's probability."""
    if method == "closed_form":
        found = published_importance(network, features, nuclei_labels, instance_type, parameters, n_types=n_types, types=types, rng=rng)
        return found[list(genes)]
    total, mass = np.zeros((len(genes), len(types))), np.zeros(len(types))
    side = parameters.patch_size_px
    for window, present in _patches_by_type(nuclei_labels, instance_type, list(types), parameters.n_importance_patches, side):
        with torch.no_grad():
            probability = torch.softmax(network(features.maps([window], network.embedding()))[0], 0)
        for i in present:
            weight = probability[types[i] + 1]
            for chunk, maps in _gene_chunks(method, network, features, window, genes, types[i], parameters, rng):
                total[chunk, i] += (maps * weight).sum((1, 2)).cpu().numpy()
            mass[i] += float(weight.sum())
    return (total / np.maximum(mass, 1e-12)).astype(np.float32)


def published_maps(
    method: PublishedAttribution,
    network: PublishedNetwork,
    features: Features,
    parameters: PublishedParameters,
    *,
    genes: Sequence[int],
    target: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(genes, H, W) attribution of one type (0..K - 1) over the whole tissue, tile by tile with margins."""
    out = np.zeros((len(genes), *features.shape), np.float32)
    side = parameters.patch_size_px
    seed = int(rng.integers(2**31))
    for tile in tiles(features.shape, side):
        window = Window(tile.y0, tile.x0, side, side).grown(MAP_HALO_PX)
        # every tile starts from the same draws, whose place is the tissue: tiles with draws of their own would show
        draws = np.random.default_rng(seed)
        for chunk, maps in _gene_chunks(method, network, features, window, genes, target, parameters, draws):
            inner = maps[:, MAP_HALO_PX : MAP_HALO_PX + tile.height, MAP_HALO_PX : MAP_HALO_PX + tile.width].cpu().numpy()
            out[chunk, tile.y0 : tile.y0 + tile.height, tile.x0 : tile.x0 + tile.width] = inner
    return out


def _gene_chunks(
    method: PublishedAttribution,
    network: PublishedNetwork,
    features: Features,
    window: Window,
    genes: Sequence[int],
    target: int,
    parameters: PublishedParameters,
    rng: np.random.Generator,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Chunks of genes and their (genes, H, W) maps at a window."""
    seed = torch.Generator(device=network.embedding().device).manual_seed(int(rng.integers(2**31)))
    for first in range(0, len(genes), _GENE_CHUNK):
        chunk = slice(first, first + _GENE_CHUNK)
        maps = window_attribution(
            method,
            network,
            features,
            window,
            genes=np.asarray(genes[chunk]),
            types=[target + 1],
            parameters=parameters.replace(attribution_grid_px=1),
            generator=seed,
            origin_px=(window.y0, window.x0),
        )
        yield chunk, maps[0]


def _patches_by_type(
    nuclei_labels: NDArray[np.integer], instance_type: NDArray[np.integer], types: Sequence[int], n_patches: int, side: int
) -> Iterator[tuple[Window, list[int]]]:
    """For every type the `n_patches` patches with most of its nuclear pixels; with each patch the positions in `types` that chose it."""
    height, width = nuclei_labels.shape
    windows = [Window(max(min(w.y0, height - side), 0), max(min(w.x0, width - side), 0), side, side) for w in tiles((height, width), side)]
    n_classes = int(max(instance_type.max(), max(types) + 1)) + 1
    area = np.stack([np.bincount(instance_type[w.cut(nuclei_labels)].ravel(), minlength=n_classes) for w in windows])
    chosen: dict[int, list[int]] = {}
    for position, t in enumerate(types):
        for index in np.argsort(-area[:, t + 1], kind="stable")[:n_patches]:
            chosen.setdefault(int(index), []).append(position)
    for index, present in sorted(chosen.items()):
        yield windows[index], present
