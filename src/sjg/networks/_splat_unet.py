"""A U-Net whose first layer is a splat of gene embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sjg.core import InputError
from sjg.networks._precision import convolve
from sjg.raster import gaussian_blur

#: floor of the relative density inside the logarithm
_DENSITY_FLOOR = 0.03


class SplatUNet(nn.Module):
    """Cell type of every pixel from transcripts, at a cost that does not depend on the number of genes.

    The input is the splat of a learned embedding (see :func:`sjg.raster.splat`), which equals a 1x1 convolution on blurred gene
    densities, plus one channel that counts molecules of any gene. Context channels carry what is not a gene (nuclei).

    Parameters
    ----------
    n_genes
        Number of genes G.
    n_types
        Number of cell types K; the network has K + 1 classes, 0 = background.
    n_embedding
        Width D of the gene embedding.
    n_features
        Channels handed to the competition beside the class logits.
    n_context
        Channels that do not come from transcripts.
    channels
        Channels per level of the U-Net; each level but the first halves the resolution.
    density_sigmas_px
        Scales at which the log density of molecules enters, in pixels.
    log_profiles
        (K, G) log mean profile of each type; the embedding starts at its leading principal axes. None starts at random.
    """

    def __init__(
        self,
        n_genes: int,
        n_types: int,
        *,
        n_embedding: int = 12,
        n_features: int = 8,
        n_context: int = 3,
        channels: Sequence[int] = (16, 32, 48),
        density_sigmas_px: Sequence[float] = (0.0, 1.7, 3.4),
        log_profiles: Tensor | None = None,
    ) -> None:
        super().__init__()
        from monai.networks.nets import UNet

        if n_genes < 1 or n_types < 1:
            raise InputError(f"A network needs genes and cell types; got {n_genes} genes and {n_types} types.")
        self.n_types, self.n_features = n_types, n_features
        self.stride = 2 ** (len(channels) - 1)
        self.density_sigmas_px = tuple(float(s) for s in density_sigmas_px)
        self.config = {
            "n_genes": n_genes,
            "n_types": n_types,
            "n_embedding": n_embedding,
            "n_features": n_features,
            "n_context": n_context,
            "channels": [int(c) for c in channels],
            "density_sigmas_px": list(self.density_sigmas_px),
        }
        #: of the convolutions, see ``networks._precision.convolve``
        self.compute_dtype = torch.float32
        self.embedding = nn.Parameter(_initial_embedding(n_genes, n_embedding, log_profiles))
        # Normalisation layers would make the result depend on the patch, and so leave seams.
        self.body = UNet(
            spatial_dims=2,
            in_channels=n_embedding + len(self.density_sigmas_px) + n_context,
            out_channels=n_types + 1 + n_features,
            channels=tuple(int(c) for c in channels),
            strides=(2,) * (len(channels) - 1),
            kernel_size=3,
            num_res_units=2,
            act=("LEAKYRELU", {"negative_slope": 0.1}),
            norm=None,
        )

    def gene_embedding(self) -> Tensor:
        """(G, D + 1): the learned embedding and a column of ones that counts molecules."""
        return torch.cat([self.embedding, self.embedding.new_ones(len(self.embedding), 1)], 1)

    def forward(self, raster: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and features.

        Parameters
        ----------
        raster
            (B, D + 1, H, W) blurred splat of :meth:`gene_embedding`, in units of the typical density.
        context
            (B, n_context, H, W).

        Returns
        -------
        (B, K + 1, H, W) logits (class 0 = background) and (B, n_features, H, W) features.
        """
        embedded, density = raster[:, :-1], raster[:, -1:]
        # Blurring is positive, so only rounding can bring a density below zero.
        scales = [gaussian_blur(density, s).clamp(min=0) for s in self.density_sigmas_px]
        logs = [torch.log(s + _DENSITY_FLOOR) for s in scales]
        x = torch.cat([embedded, *logs, context], 1)
        height, width = x.shape[-2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        out = convolve(self.body, nn.functional.pad(x, pad), self.compute_dtype)[..., :height, :width]
        return out[:, : self.n_types + 1], out[:, self.n_types + 1 :]


def _initial_embedding(n_genes: int, n_embedding: int, log_profiles: Tensor | None) -> Tensor:
    embedding = torch.randn(n_genes, n_embedding) * 0.05
    if log_profiles is not None:
        centred = log_profiles - log_profiles.mean(0)
        _, _, axes = torch.linalg.svd(centred.float(), full_matrices=False)
        n = min(n_embedding, len(axes))
        embedding[:, :n] = 0.3 * n_genes**0.5 * axes[:n].T
    return embedding
