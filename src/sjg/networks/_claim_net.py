"""A network, shared by all cells and tissues, that maps what a cell may claim around its nucleus."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sjg.networks._precision import convolve

#: logit of a claim at the outline of a nucleus and its slope per median nuclear radius, before training
_START_LOGIT, _START_SLOPE = 1.0, -1.5


class ClaimNet(nn.Module):
    """Log odds that a place belongs to a cell rather than to none, from a crop around the nucleus.

    It sees geometry and evidence only (distances, densities, log ratios of profiles), neither genes nor types, so weights that were
    trained on simulated tissue with known cells serve any panel.

    Parameters
    ----------
    n_inputs
        Channels of a crop; the first is the signed distance to the outline of the cell's nucleus in median nuclear radii.
    channels
        Channels per level of the U-Net; each level but the first halves the resolution.
    """

    def __init__(self, n_inputs: int, *, channels: Sequence[int] = (24, 32, 48)) -> None:
        super().__init__()
        from monai.networks.nets import UNet

        self.n_inputs, self.channels = n_inputs, tuple(int(c) for c in channels)
        self.body = UNet(
            spatial_dims=2,
            in_channels=n_inputs,
            out_channels=2,
            channels=self.channels,
            strides=(2,) * (len(self.channels) - 1),
            kernel_size=3,
            num_res_units=2,
            act=("LEAKYRELU", {"negative_slope": 0.1}),
            norm=None,
        )
        #: of the convolutions, see ``networks._precision.convolve``
        self.compute_dtype = torch.float32
        self.gene_weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, crops: Tensor) -> Tensor:
        """Claims.

        Parameters
        ----------
        crops
            (B, n_inputs, S, S), S a multiple of the U-Net's stride.

        Returns
        -------
        (B, 2, S, S) log odds against no cell: that the place is part of the cell, and that a molecule seen there came from it.
        """
        out = convolve(self.body, crops, self.compute_dtype)
        mask = _START_LOGIT + _START_SLOPE * crops[:, :1] + out[:, :1]
        return torch.cat([mask, mask + out[:, 1:]], 1)
