"""A small tissue with planted markers and a small network trained on it; shared by the scripts of this folder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from torch import Tensor, nn

from sjg.raster import bin_counts, gaussian_blur, splat

SIGMA_PX = 2.0
EMBEDDING = 16


@dataclass(frozen=True)
class Tissue:
    """Cells in contact on a jittered lattice; type k owns the genes ``3 k .. 3 k + 2``, the other genes are shared by all types."""

    coords_px: Tensor
    gene: Tensor
    type_map: Tensor  # (H, W) 0 = background, k + 1 = type k
    n_types: int
    n_genes: int

    def marker_mask(self) -> np.ndarray:
        """(G, K) True where the gene is a planted marker of the type."""
        mask = np.zeros((self.n_genes, self.n_types), dtype=bool)
        for kind in range(self.n_types):
            mask[3 * kind : 3 * kind + 3, kind] = True
        return mask


def make_tissue(
    *, seed: int, side_px: int = 256, n_types: int = 8, n_genes: int = 60, per_cell: int = 60, spacing_px: int = 22, noise: float = 0.08
) -> Tissue:
    """Markers are expressed 20-fold in their type; shared genes have log-normal levels, equal in all types."""
    rng = np.random.default_rng(seed)
    profile = np.tile(rng.lognormal(0.0, 0.7, n_genes), (n_types, 1))
    level = rng.uniform(0.6, 1.6, 3 * n_types) * np.median(profile)
    profile[:, : 3 * n_types] = level * 0.15
    for kind in range(n_types):
        profile[kind, 3 * kind : 3 * kind + 3] = level[3 * kind : 3 * kind + 3] * 3.0
    profile /= profile.sum(1, keepdims=True)
    centre = np.stack(np.meshgrid(*[np.arange(spacing_px / 2, side_px, spacing_px)] * 2, indexing="ij"), -1).reshape(-1, 2)
    centre = centre + rng.uniform(-0.3, 0.3, centre.shape) * spacing_px
    kinds = rng.integers(n_types, size=len(centre))
    pixel = np.stack(np.mgrid[:side_px, :side_px], -1).reshape(-1, 2) + 0.5
    distance = np.linalg.norm(pixel[:, None] - centre[None], axis=-1)
    owner = distance.argmin(1)
    inside = distance.min(1) < 0.55 * spacing_px
    type_map = np.where(inside, kinds[owner] + 1, 0).reshape(side_px, side_px)
    coords, genes = [], []
    for cell, kind in enumerate(kinds):
        own = pixel[inside & (owner == cell)]
        if not len(own):
            continue
        count = rng.poisson(per_cell)
        coords.append(own[rng.integers(len(own), size=count)] + rng.uniform(-0.5, 0.5, (count, 2)))
        genes.append(rng.choice(n_genes, size=count, p=profile[kind]))
    n_noise = int(noise * sum(map(len, genes)))
    coords.append(rng.uniform(0, side_px, (n_noise, 2)))
    genes.append(rng.integers(n_genes, size=n_noise))
    return Tissue(
        torch.tensor(np.concatenate(coords), dtype=torch.float32),
        torch.tensor(np.concatenate(genes)),
        torch.tensor(type_map),
        n_types,
        n_genes,
    )


class SplatUNet(nn.Module):
    """Embedding and MONAI UNet; `dense` is the same function of the blurred gene histograms."""

    def __init__(self, n_genes: int, n_types: int, channels: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(n_genes, EMBEDDING) * 0.02)
        self.head = UNet(2, EMBEDDING, n_types + 1, channels, [2] * (len(channels) - 1), num_res_units=1, norm="batch")

    def maps(self, coords_px: Tensor, gene: Tensor, shape: tuple[int, int]) -> Tensor:
        return 10 * splat(coords_px, gene, self.embedding, shape, sigma_px=SIGMA_PX)[None]

    def dense(self) -> nn.Module:
        first = nn.Conv2d(len(self.embedding), EMBEDDING, 1, bias=False)
        first.weight.data.copy_(10 * self.embedding.detach().T[:, :, None, None])
        return nn.Sequential(first, self.head)


def densities(tissue: Tissue, top: int, left: int, side_px: int) -> Tensor:
    """(1, G, side, side) blurred histograms of a window: the published network's input."""
    coords = tissue.coords_px - torch.tensor([top, left])
    return gaussian_blur(bin_counts(coords, tissue.gene, (side_px, side_px), n_genes=tissue.n_genes), SIGMA_PX)[None]


def train(tissue: Tissue, *, seed: int, n_steps: int = 150, patch_px: int = 64, batch: int = 4, genes: Tensor | None = None) -> SplatUNet:
    """Train on random windows of the true type map; `genes` (bool per gene) hides the others."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = SplatUNet(tissue.n_genes, tissue.n_types)
    keep = torch.ones(len(tissue.gene), dtype=torch.bool) if genes is None else genes[tissue.gene]
    coords_px, gene = tissue.coords_px[keep], tissue.gene[keep]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=n_steps)
    side = tissue.type_map.shape[0]
    for _ in range(n_steps):
        corners = torch.randint(0, side - patch_px, (batch, 2), generator=generator)
        maps = torch.cat([model.maps(coords_px - corner, gene, (patch_px, patch_px)) for corner in corners])
        label = torch.stack([tissue.type_map[r : r + patch_px, c : c + patch_px] for r, c in corners.tolist()])
        loss = F.cross_entropy(model.head(maps), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def trained(seed: int = 0, *, tissue_seed: int = 0, n_genes: int = 60) -> tuple[Tissue, SplatUNet]:
    """A tissue and a network trained on it (about 20 s on one core)."""
    tissue = make_tissue(seed=tissue_seed, n_genes=n_genes)
    return tissue, train(tissue, seed=seed, n_steps=300)
