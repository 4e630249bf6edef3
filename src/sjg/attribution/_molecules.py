"""Attribution of single transcripts, and gene importance as their sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sjg.attribution._adjoint import adjoints, check_splat
from sjg.attribution._grid import half_log
from sjg.attribution._module import as_targets, check_count
from sjg.attribution._probes import ProbeKind
from sjg.core import InputError


def molecule_attribution(
    head: nn.Module,
    splat_maps: Tensor,
    embedding: Tensor,
    target: int | Sequence[int],
    *,
    coords_px: Tensor,
    gene: Tensor,
    batch_index: Tensor,
    sigma_px: float,
    n_probes: int = 16,
    generator: torch.Generator | None = None,
    probes: ProbeKind = "interleaved",
) -> Tensor:
    r"""Squared change of each class map, summed over pixels, when one transcript is added or removed, to first order.

    For transcript n of gene g in pixel p this is :math:`\|J_{gp}\|^2 = E_v[(E_g \cdot a_p)^2]`. Cost: `n_probes` backward passes a class and one gather
    per transcript; the number of genes does not enter.

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
    coords_px, gene, batch_index
        (N, 2) as (y, x), (N,), (N,): the transcripts as given to :func:`sjg.raster.splat_batch`.
    sigma_px
        Blur of the splat in pixels.
    n_probes
        Backward passes per class.
    generator
        Source of the random signs; None takes fresh entropy.
    probes
        See :func:`closed_form`.

    Returns
    -------
    (N,), or (T, N) for several classes; 0 for transcripts outside the raster.

    Raises
    ------
    InputError
        Shapes, indices or `target` do not fit, or logits are not finite.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import molecule_attribution
    >>> from sjg.raster import splat
    >>> coords, gene = torch.tensor([[1.5, 1.5], [6.5, 6.5]]), torch.tensor([0, 1])
    >>> embedding = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    >>> maps = splat(coords, gene, embedding, (8, 8), sigma_px=0.0)[None]
    >>> effect = molecule_attribution(
    ...     torch.nn.Conv2d(2, 2, 1),
    ...     maps,
    ...     embedding,
    ...     0,
    ...     coords_px=coords,
    ...     gene=gene,
    ...     batch_index=torch.zeros(2, dtype=torch.long),
    ...     sigma_px=0.0,
    ... )
    >>> round(float(effect[1] / effect[0]), 4)
    9.0
    """
    rows = check_splat(splat_maps, embedding)
    batch, _, height, width = splat_maps.shape
    coords_px, gene, batch_index = (torch.as_tensor(a, device=rows.device) for a in (coords_px, gene, batch_index))
    if coords_px.shape != (len(gene), 2) or batch_index.shape != gene.shape or gene.ndim != 1:
        raise InputError(
            f"coords_px {tuple(coords_px.shape)}, gene {tuple(gene.shape)}, batch_index {tuple(batch_index.shape)}; give (N, 2), (N,) and (N,)."
        )
    for name, index, size in (("gene", gene, len(rows)), ("batch_index", batch_index, batch)):
        if len(index) and not bool(((index >= 0) & (index < size)).all()):
            raise InputError(f"{name} reaches from {int(index.min())} to {int(index.max())}; valid are 0..{size - 1}.")
    y, x = coords_px.floor().long().unbind(1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    y, x, item_of = (torch.where(inside, index.long(), 0) for index in (y, x, batch_index))
    own = rows[gene.long()] * inside[:, None]
    targets, several = as_targets(target)
    effects = []
    with adjoints(head, splat_maps, targets, sigma_px=sigma_px, n_probes=n_probes, generator=generator, probes=probes) as engine:
        for products in engine:
            effect = torch.zeros(len(gene), dtype=rows.dtype, device=rows.device)
            for a in products:
                effect += (own * a[item_of, :, y, x]).sum(1).square()
            effects.append(effect)
    result = torch.stack(effects) if several else effects[0]
    if not bool(torch.isfinite(result).all()):
        raise InputError("the derivatives of the logits are not finite; attribution would be meaningless.")
    return result


class GeneImportance:
    r"""Gene importance per type, gathered patch by patch.

    :math:`I_{gc} = \tfrac12 \log \tfrac{1}{M_c} \sum_{n \in g} w_{nc} \|J_n\|^2`: the published -log sigma for noise that each gene carries anyway.
    Counts are Poisson, the noise on gene g at pixel p has variance proportional to its density there, and the
    share of the variance of the class map that comes from gene g is the sum over its transcripts of their
    squared effects (:func:`molecule_attribution`). With `weight` the transcripts in pixels of the type, it
    asks what decides for c where c is. The published mean of -log sigma over all pixels weighs markers of other types, whose
    absence the network also uses, as much as the type's own.

    The result multiplies the effect by the share of the gene's transcripts that lie in the type, :math:`I_{gc} + s \log P(c \mid g)`:
    a transcript of an abundant housekeeping gene moves the map as well, but says little. With s = 2 both parts spread about as widely
    over genes, and ranks hardly depend on the training run; s = 0 leaves the attribution alone. The documentation compares them.

    A type of few cells shows few transcripts of a gene or none, and its ranks would be chance. With the expected `composition` of the types
    the counts are shrunk to it, as class means are in a run: abundant types speak for themselves, rare ones follow what is known of them.

    Parameters
    ----------
    n_genes
        Number of genes G.
    n_types
        Number of types T.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import GeneImportance
    >>> importance = GeneImportance(2, 1)
    >>> importance.add(torch.tensor([[1.0, 4.0, 4.0]]), gene=torch.tensor([0, 1, 1]), weight=torch.ones(1, 3))
    >>> importance.result().shape
    torch.Size([2, 1])
    """

    def __init__(self, n_genes: int, n_types: int) -> None:
        check_count("n_genes", n_genes)
        check_count("n_types", n_types)
        self._sum = torch.zeros(n_types, n_genes, dtype=torch.float64)
        self._seen = torch.zeros(n_types, n_genes, dtype=torch.float64)
        self._present = torch.zeros(n_types, n_genes, dtype=torch.float64)
        self._count = torch.zeros(n_genes, dtype=torch.float64)

    def add(self, effect: Tensor, *, gene: Tensor, weight: Tensor, presence: Tensor | None = None) -> None:
        """Add the transcripts of one or more patches.

        Parameters
        ----------
        effect
            (T, N) from :func:`molecule_attribution`; NaN where it was not computed: the transcript then counts for the share alone.
        gene
            (N,) gene index.
        weight
            (T, N) weight of each transcript for each type in [0, 1], for instance the probability of the type at its pixel.
        presence
            (T, N) chance in [0, 1] that the transcript lies in a cell of the type, for the counts and shares; None = `weight`.

        Raises
        ------
        InputError
            Shapes do not fit.
        """
        n_types, n_genes = self._sum.shape
        presence = weight if presence is None else presence
        shapes = {"effect": effect, "weight": weight, "presence": presence}
        if effect.ndim != 2 or any(one.shape != (n_types, len(gene)) for one in shapes.values()) or gene.ndim != 1:
            got = ", ".join(f"{name} {tuple(one.shape)}" for name, one in shapes.items())
            raise InputError(f"{got}, gene {tuple(gene.shape)}; give ({n_types}, N) for each and (N,) for gene.")
        if len(gene) and not 0 <= int(gene.min()) <= int(gene.max()) < n_genes:
            raise InputError(f"gene reaches from {int(gene.min())} to {int(gene.max())}; valid are 0..{n_genes - 1}.")
        gene = gene.cpu().long()
        weight, effect, presence = (one.detach().cpu().double() for one in (weight, effect, presence))
        self._sum.index_add_(1, gene, (effect * weight).nan_to_num(0.0))
        self._seen.index_add_(1, gene, torch.where(effect.isnan(), 0.0, weight))
        self._present.index_add_(1, gene, presence)
        self._count += torch.bincount(gene, minlength=n_genes)

    def result(self, *, specificity: float = 2.0, composition: Tensor | None = None, strength: float = 1000.0) -> Tensor:
        """Importance of what was added so far.

        Parameters
        ----------
        specificity
            Power s >= 0 of the share of a gene's transcripts that lie in the type; 0 = attribution alone.
        composition
            (T, G) expected share of each gene among the transcripts of a type, for instance of a reference; None = by the counts alone.
        strength
            Transcripts per type that `composition` is worth.

        Returns
        -------
        (G, T) float32, higher = more informative. Genes without a transcript, and without `composition` those without a weighted one, get the
        floor of :func:`closed_form`.

        Raises
        ------
        InputError
            An argument is negative, or `composition` does not fit.
        """
        if not specificity >= 0 or not strength >= 0:
            raise InputError(f"specificity is {specificity}, strength {strength}; give numbers >= 0 (0 = attribution alone, counts alone).")
        tiny = torch.finfo(torch.float64).tiny
        if composition is None:
            square = self._sum / self._seen.sum(1, keepdim=True).clamp_min(tiny)
            # One pseudo-transcript with the types' overall shares: a gene seen once is not yet specific.
            prior = self._present.sum(1, keepdim=True) / self._count.sum().clamp_min(1)
            share = (self._present + prior) / (self._count + 1)
        else:
            square, share = self._shrunk(composition, strength)
        log_share = share.clamp_min(torch.finfo(torch.float32).tiny).log().float()
        return (half_log(square.float()) + specificity * log_share).T.contiguous()

    def _shrunk(self, composition: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """(T, G) mean squared effect and share in the type, from counts shrunk to the expected ones."""
        expected = composition.detach().cpu().double()
        if expected.shape != self._sum.shape or not bool((torch.isfinite(expected) & (expected >= 0)).all()):
            raise InputError(f"composition has shape {tuple(expected.shape)}; give finite numbers >= 0 of shape {tuple(self._sum.shape)}.")
        tiny = torch.finfo(torch.float64).tiny
        expected = expected / expected.sum(1, keepdim=True).clamp_min(tiny)
        total = self._present.sum(1, keepdim=True)
        among = (self._present + strength * expected) / (total + strength).clamp_min(tiny)
        # what no cell of the tissue shows decides nothing here, whatever is known of the type
        among = torch.where(self._count > 0, among, 0.0)
        # One pseudo-transcript each: of the type's mean effect, and of the type. A gene hardly seen says nothing by itself.
        usual = self._sum.sum(1, keepdim=True) / self._seen.sum(1, keepdim=True).clamp_min(tiny)
        per_transcript = (self._sum + usual) / (self._seen + 1)
        inside = (total + 1) * among
        elsewhere = (self._count - self._present.sum(0)).clamp_min(0)
        return among * per_transcript, inside / (inside.sum(0) + elsewhere).clamp_min(tiny)
