"""Attribution of every gene through a splat layer, at a cost that does not grow with the number of genes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sjg.attribution._adjoint import adjoints, check_splat
from sjg.attribution._grid import half_log
from sjg.attribution._module import as_targets, check_count, fresh_generator
from sjg.attribution._probes import ProbeKind
from sjg.core import InputError
from sjg.raster import gaussian_blur

# Genes per block: 512 genes x 256 pixels in float32 are half a megabyte, which stays in the cache.
_GENE_BLOCK = 512


class SplatChannels(nn.Module):
    """A splat network as a function of extra counts of chosen genes, for the methods that need one input channel a gene.

    ``SplatChannels(...)(x)`` are the logits with ``x`` (B, n, H, W) added to the counts of the n genes before the blur, so
    ``optimize(SplatChannels(head, maps, embedding[genes], sigma_px=s), zeros, target)`` is the published
    objective for these genes.

    Parameters
    ----------
    head
        Maps the splat (B, D, H, W) to logits (B, K, H, W).
    splat_maps
        (B, D, H, W) the splatted transcripts.
    embedding
        (n, D) rows of the chosen genes.
    sigma_px
        Blur of the splat in pixels.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import SplatChannels, closed_form
    >>> model = SplatChannels(torch.nn.Conv2d(4, 2, 1), torch.rand(1, 4, 16, 16), torch.randn(3, 4), sigma_px=1.0)
    >>> closed_form(model, torch.zeros(1, 3, 16, 16), 0).shape
    torch.Size([1, 3, 16, 16])
    """

    def __init__(self, head: nn.Module, splat_maps: Tensor, embedding: Tensor, *, sigma_px: float) -> None:
        super().__init__()
        self.head = head
        self.embedding = check_splat(splat_maps, embedding)
        self.splat_maps = splat_maps.detach()
        self.sigma_px = sigma_px

    def forward(self, extra: Tensor) -> Tensor:
        """(B, n, H, W) extra counts -> (B, K, H, W) logits."""
        embedded = torch.einsum("nd,bnhw->bdhw", self.embedding, extra)
        logits: Tensor = self.head(self.splat_maps + gaussian_blur(embedded, self.sigma_px))
        return logits


def splat_closed_form(
    head: nn.Module,
    splat_maps: Tensor,
    embedding: Tensor,
    target: int | Sequence[int],
    *,
    sigma_px: float,
    n_probes: int = 16,
    weight: Tensor | None = None,
    n_pixels: int = 256,
    generator: torch.Generator | None = None,
    probes: ProbeKind = "interleaved",
) -> Tensor:
    r"""Mean of -log sigma over pixels for every gene: the published gene importance, in closed form.

    With a the derivative of the class map with respect to the D-channel splat, noise on the counts of gene g at pixel p acts through
    ``E[g]``, so :math:`\|J_{gp}\|^2 = E_v[(E_g \cdot a_p)^2]`. The network's share of the cost knows nothing of G; the rest is one
    product of (G, D) with (D, `n_pixels`) per probe, in blocks of genes.

    Parameters
    ----------
    head
        Maps the splat (B, D, H, W) to logits (B, K, H, W); run frozen and left as it was.
    splat_maps
        (B, D, H, W) result of :func:`sjg.raster.splat_batch`.
    embedding
        (G, D) rows it was splatted with.
    target
        Class index, or several, which share the forward pass.
    sigma_px
        Blur of the splat in pixels.
    n_probes
        Backward passes per class.
    weight
        (B, H, W) non-negative weights of the pixels in the mean, for instance the pixels of the type; None = all equal. For several
        classes also (T, B, H, W).
    n_pixels
        Pixels, drawn with chances proportional to `weight`, over which the mean is taken; all are used, exactly, if there are no more.
        The same pixels serve all genes, so what the draw adds is nearly one constant.
    generator
        Source of randomness; None takes fresh entropy.
    probes
        See :func:`closed_form`.

    Returns
    -------
    (G,), or (T, G) for several classes; higher = more informative.

    Raises
    ------
    InputError
        Shapes or `target` do not fit, logits are not finite, or the weights are all zero.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import splat_closed_form
    >>> embedding = torch.tensor([[1.0, 0.0], [4.0, 0.0], [0.5, 0.0]])
    >>> head = torch.nn.Conv2d(2, 2, 1)
    >>> score = splat_closed_form(head, torch.rand(1, 2, 8, 8), embedding, 1, sigma_px=0.0)
    >>> (score - score[0]).exp()
    tensor([1.0000, 4.0000, 0.5000])
    """
    check_count("n_pixels", n_pixels)
    rows = check_splat(splat_maps, embedding)
    targets, several = as_targets(target)
    weights = _pixel_weights(weight, splat_maps, len(targets))
    generator = fresh_generator(generator)
    scores = []
    with adjoints(head, splat_maps, targets, sigma_px=sigma_px, n_probes=n_probes, generator=generator, probes=probes) as engine:
        for products, pixel_weight in zip(engine, weights, strict=True):
            chosen, share = _choose_pixels(pixel_weight, n_pixels, generator)
            # (n_probes, D, P): all that the genes need to know about the network.
            factors = torch.stack([a.permute(1, 0, 2, 3).flatten(1)[:, chosen] for a in products])
            blocks = [rows[start : start + _GENE_BLOCK] for start in range(0, len(rows), _GENE_BLOCK)]
            scores.append(torch.cat([_mean_log(block, factors, share) for block in blocks]))
    return torch.stack(scores) if several else scores[0]


def type_attribution(
    head: nn.Module,
    splat_maps: Tensor,
    embedding: Tensor,
    target: Sequence[int],
    *,
    sigma_px: float,
    n_probes: int = 4,
    generator: torch.Generator | None = None,
    probes: ProbeKind = "interleaved",
) -> Tensor:
    r"""How much a pixel's transcripts, whatever the gene, can move each class map: the quantity for an attribution gate.

    :math:`\tfrac12 \log \tfrac1G \sum_g \|J_{gp}\|^2`, from the (D, D) second moment of the embedding, so its cost does not depend on G.

    Parameters
    ----------
    head, splat_maps, embedding, sigma_px, n_probes, generator, probes
        As in :func:`splat_closed_form`.
    target
        The T classes.

    Returns
    -------
    (B, T, H, W); one scale for all classes, so that they can be compared.

    Raises
    ------
    InputError
        As in :func:`splat_closed_form`.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import type_attribution
    >>> type_attribution(torch.nn.Conv2d(4, 3, 1), torch.rand(1, 4, 8, 8), torch.randn(5, 4), [0, 2], sigma_px=1.0).shape
    torch.Size([1, 2, 8, 8])
    """
    rows = check_splat(splat_maps, embedding)
    moment = rows.T @ rows / len(rows)
    squares = []
    with adjoints(head, splat_maps, list(target), sigma_px=sigma_px, n_probes=n_probes, generator=generator, probes=probes) as engine:
        for products in engine:
            total = torch.zeros_like(splat_maps[:, 0], requires_grad=False)
            for a in products:
                total += (a * torch.einsum("de,behw->bdhw", moment, a)).sum(1)
            squares.append(total)
    return half_log(torch.stack(squares, 1))


def _mean_log(rows: Tensor, factors: Tensor, share: Tensor) -> Tensor:
    """(g,) weighted mean over pixels of log||J||."""
    square = torch.zeros(len(rows), factors.shape[-1], dtype=factors.dtype, device=factors.device)
    effect = torch.empty_like(square)
    for factor in factors:
        torch.mm(rows, factor, out=effect)
        square.addcmul_(effect, effect)
    # The largest a unit of embedding could do anywhere sets the rounding error, the same for every block of genes.
    peak = factors.square().sum((0, 1)).amax() * rows.square().sum(1)
    return half_log(square, peak=peak) @ share


def _pixel_weights(weight: Tensor | None, maps: Tensor, n_targets: int) -> Tensor:
    """(T, B * H * W) non-negative weights."""
    batch, _, height, width = maps.shape
    if weight is None:
        return torch.ones(n_targets, batch * height * width, device=maps.device)
    shape = (batch, height, width)
    if weight.shape not in {shape, (n_targets, *shape)}:
        raise InputError(f"weight has shape {tuple(weight.shape)}; give {shape} or {(n_targets, *shape)}.")
    flat = weight.to(maps.device).float().expand(n_targets, *shape).reshape(n_targets, -1)
    if not bool((torch.isfinite(flat) & (flat >= 0)).all()) or not bool((flat.sum(1) > 0).all()):
        raise InputError("weight must be finite and non-negative with a positive sum for every target; leave out targets without pixels.")
    return flat


def _choose_pixels(weight: Tensor, n_pixels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of pixels and their shares in the mean (sum 1)."""
    (candidates,) = weight.nonzero(as_tuple=True)
    if len(candidates) <= n_pixels:
        return candidates, weight[candidates] / weight[candidates].sum()
    cumulative = weight.double().cumsum(0)
    draws = torch.rand(n_pixels, generator=generator, device=generator.device, dtype=torch.float64).to(weight.device)
    # Systematic sampling: evenly spaced with jitter, which spreads the pixels over the patch.
    steps = (torch.arange(n_pixels, device=weight.device) + draws) / n_pixels * cumulative[-1]
    chosen = torch.searchsorted(cumulative, steps).clamp(max=len(weight) - 1)
    return chosen, torch.full((n_pixels,), 1 / n_pixels, device=weight.device)
