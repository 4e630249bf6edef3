"""Attribution of the network of a published run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError
from sjg.tl._inputs import RunArrays

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from sjg.training import PublishedAttribution


def published_attribution(
    stored: Mapping[str, Any],
    inputs: RunArrays,
    *,
    fabric: Fabric,
    method: PublishedAttribution,
    genes: list[int],
    types: list[int],
    n_types: int,
    as_maps: bool,
    n_probes: int,
    n_patches: int | None,
    n_steps: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(genes, types) importance, or the (genes, H, W) maps of the one type.

    Raises
    ------
    InputError
        Genes or nuclei are not those of the run.
    """
    from sjg.training import ChannelFeatures, TranscriptFeatures, load_published, published_importance_by, published_maps

    network, instance_type, parameters = load_published(dict(stored), n_types, device=fabric.device)
    parameters = parameters.replace(
        n_probes=n_probes, n_importance_patches=n_patches or parameters.n_importance_patches, attribution_steps=n_steps
    )
    if int(inputs.nuclei.max()) != len(instance_type) - 1:
        raise InputError("The nuclei are not those of the run; run sjg.tl.segment again.")
    features = (
        TranscriptFeatures(inputs.molecules, inputs.grid.shape, sigma_px=parameters.raster_radii * network.radius_px)
        if inputs.channels is None
        else ChannelFeatures(inputs.channels.densities())
    )
    if as_maps:
        return published_maps(method, network, features, parameters, genes=genes, target=types[0], rng=rng)
    return published_importance_by(
        method, network, features, inputs.nuclei, instance_type, parameters, genes=genes, types=types, n_types=n_types, rng=rng
    )
