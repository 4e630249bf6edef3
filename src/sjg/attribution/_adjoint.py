"""Derivatives of class maps with respect to splatted transcripts, before the blur."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sjg.attribution._module import channel, check_count, check_inputs, fresh_generator, frozen, run_from_leaf
from sjg.attribution._probes import ProbeKind, probe_vectors
from sjg.core import InputError
from sjg.raster import gaussian_blur


@contextmanager
def adjoints(
    head: nn.Module,
    splat_maps: Tensor,
    targets: Sequence[int],
    *,
    sigma_px: float,
    n_probes: int,
    generator: torch.Generator | None,
    probes: ProbeKind,
) -> Iterator[list[Iterator[Tensor]]]:
    r"""For each target the products :math:`a = \mathrm{blur}(J^\top v)`, (B, D, H, W) each, with ``sum_v (E[g] . a_p)^2 ~ ||J_gp||^2``.

    A context, because `head` stays frozen until the last product is taken; the forward pass is shared by the targets.
    """
    check_count("n_probes", n_probes)
    if not targets:
        raise InputError("target is empty; give at least one class index.")
    maps = check_inputs(splat_maps, grid_px=1)
    generator = fresh_generator(generator)
    with frozen(head):
        maps, logits = run_from_leaf(head, maps)
        for target in targets:
            channel(logits, target)  # a wrong index is an error before the first pass
        yield [_products(logits, target, maps, sigma_px, n_probes, generator, probes) for target in targets]


def _products(
    logits: Tensor, target: int, maps: Tensor, sigma_px: float, n_probes: int, generator: torch.Generator, probes: ProbeKind
) -> Iterator[Tensor]:
    cotangent = torch.zeros_like(logits, requires_grad=False)
    for vector in probe_vectors(probes, n_probes, like=logits[:, target].detach(), generator=generator):
        if logits.requires_grad:
            cotangent[:, target] = vector
            (product,) = torch.autograd.grad(logits, maps, cotangent, retain_graph=True)
        else:  # the class does not depend on the transcripts at all
            product = torch.zeros_like(maps, requires_grad=False)
        # The blur is symmetric, hence its own adjoint.
        yield gaussian_blur(product.detach(), sigma_px)


def check_splat(splat_maps: Tensor, embedding: Tensor) -> Tensor:
    """The embedding detached, on the device of the maps."""
    if splat_maps.ndim != 4 or embedding.ndim != 2 or splat_maps.shape[1] != embedding.shape[1]:
        raise InputError(
            f"splat_maps {tuple(splat_maps.shape)} and embedding {tuple(embedding.shape)} do not fit; "
            "give (B, D, H, W) and the (G, D) embedding they were splatted with."
        )
    return embedding.detach().to(splat_maps)
