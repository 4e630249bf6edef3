"""The network of the published self-training, and how it is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sjg.core import InputError
from sjg.networks import SplatUNet
from sjg.training._published_parameters import PublishedParameters

KIND = "published"
_PROFILE_FLOOR = 1e-3


class PublishedNetwork(nn.Module):
    """U-Net from embedded densities to class logits; it sees no nuclei, as in the paper.

    Parameters
    ----------
    n_features
        Genes or channels.
    n_types
        K types.
    parameters
        Widths.
    radius_px
        Median nuclear radius.
    density
        Typical density inside nuclei, which counts as 1.
    log_profiles
        (K, C), to start the embedding; None starts at random.
    """

    def __init__(
        self,
        n_features: int,
        n_types: int,
        parameters: PublishedParameters,
        *,
        radius_px: float,
        density: float,
        log_profiles: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.radius_px, self.density = float(radius_px), float(density)
        self.unet = SplatUNet(
            n_features,
            n_types,
            n_embedding=parameters.n_embedding,
            n_features=0,
            n_context=0,
            channels=parameters.channels,
            # densities enter linearly, as in the paper: on their logarithm empty places would be the most sensitive, and win every gate
            density_sigmas_px=(),
            log_profiles=log_profiles,
        )

    def embedding(self) -> Tensor:
        """(C, D) map from densities to the input of :meth:`forward`."""
        return self.unet.gene_embedding()

    def forward(self, maps: Tensor) -> Tensor:
        """(B, D, H, W) embedded densities -> (B, K + 1, H, W) logits, class 0 = background."""
        nothing = maps.new_zeros(len(maps), 0, *maps.shape[-2:])
        logits: Tensor = self.unet(maps / self.density, nothing)[0]
        return logits


def log_profiles_of(totals: NDArray[np.float64]) -> Tensor:
    """(K, C) log share of each gene in each type from (K + 1, C) totals, row 0 = outside nuclei."""
    ambient = totals.sum(0) + 0.5
    ambient /= ambient.sum()
    counts = totals[1:] + 20 * ambient
    share = counts / counts.sum(1, keepdims=True) + _PROFILE_FLOOR * ambient
    return torch.as_tensor(np.log(share / share.sum(1, keepdims=True)), dtype=torch.float32)


def store_published(network: PublishedNetwork, instance_type: NDArray[np.integer], parameters: PublishedParameters) -> dict[str, Any]:
    """Plain nested dict of numbers, lists and arrays, which needs no pickle."""
    weights = {k.replace(".", "__"): v.detach().cpu().numpy() for k, v in network.state_dict().items()}
    return {
        "kind": KIND,
        "radius_px": network.radius_px,
        "density": network.density,
        "parameters": parameters.to_dict(),
        "weights": weights,
        "instance_type": np.asarray(instance_type, np.int32),
    }


def load_published(
    stored: dict[str, Any], n_types: int, *, device: torch.device | str = "cpu"
) -> tuple[PublishedNetwork, NDArray[np.int64], PublishedParameters]:
    """Rebuild what :func:`store_published` stored, also after a round trip through zarr.

    Raises
    ------
    InputError
        The dict is incomplete.
    """
    try:
        parameters = PublishedParameters().replace(**{k: _plain(v) for k, v in stored["parameters"].items()})
        weights = {k.replace("__", "."): torch.as_tensor(np.asarray(v)) for k, v in stored["weights"].items()}
        n_features = len(weights["unet.embedding"])
        network = PublishedNetwork(n_features, n_types, parameters, radius_px=float(stored["radius_px"]), density=float(stored["density"]))
        shapes = {k: v.shape for k, v in network.state_dict().items()}
        network.load_state_dict({k: v.reshape(shapes[k]) if k in shapes else v for k, v in weights.items()})
        instance_type = np.asarray(stored["instance_type"], np.int64)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"The stored network is incomplete ({error}); run sjg.tl.segment again.") from error
    return network.to(device).requires_grad_(False), instance_type, parameters


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    return tuple(value) if isinstance(value, list) else value
