"""Splatting: the first layer of a network on gene densities, at a cost that follows the number of transcripts.

A 1x1 convolution with weights E[:, d] on blurred per-gene histograms is linear, and the same blur acts on every gene, so
``conv1x1(blur(onehot)) = blur(scatter_add(E[gene]))``: no (G, H, W) raster is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sjg.core import InputError
from sjg.raster._blur import gaussian_blur


def splat(
    coords_px: Tensor,
    gene: Tensor,
    embedding: Tensor,
    shape: Sequence[int],
    *,
    sigma_px: float,
) -> Tensor:
    """Add the embedding of each transcript's gene to its pixel, then blur.

    Parameters
    ----------
    coords_px
        (N, 2) positions as (y, x) in grid pixels; pixel (r, c) covers ``[r, r + 1) x [c, c + 1)``.
        Transcripts outside `shape` are ignored, so that a patch can be given all transcripts near it.
    gene
        (N,) integer index into the rows of `embedding`.
    embedding
        (G, D) floating point rows; gradients flow into it.
    shape
        (H, W) in pixels.
    sigma_px
        Standard deviation of the blur in pixels; 0 = none. See :func:`gaussian_blur` for the border.

    Returns
    -------
    (D, H, W) tensor in the dtype and on the device of `embedding`.

    Raises
    ------
    InputError
        A position is not finite, a gene index is outside ``0..G-1``, or shapes do not fit.

    Examples
    --------
    >>> import torch
    >>> from sjg.raster import splat
    >>> embedding = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> raster = splat(torch.tensor([[0.5, 1.2], [0.9, 1.9]]), torch.tensor([0, 1]), embedding, (2, 3), sigma_px=0)
    >>> raster[:, 0, 1]
    tensor([1., 2.])
    """
    batch_index = torch.zeros(len(gene), dtype=torch.long)
    return splat_batch(coords_px, gene, batch_index, embedding, batch_size=1, shape=shape, sigma_px=sigma_px)[0]


def splat_batch(
    coords_px: Tensor,
    gene: Tensor,
    batch_index: Tensor,
    embedding: Tensor,
    *,
    batch_size: int,
    shape: Sequence[int],
    sigma_px: float,
) -> Tensor:
    """:func:`splat` for several patches in one scatter.

    Parameters
    ----------
    coords_px
        (N, 2) positions as (y, x) in the pixels of the transcript's own patch; ignored where outside `shape`.
    gene
        (N,) integer index into the rows of `embedding`.
    batch_index
        (N,) integer patch of each transcript, ``0..batch_size-1``.
    embedding
        (G, D) floating point rows; gradients flow into it.
    batch_size
        Number of patches B; patches without transcripts are zeros.
    shape
        (H, W) of every patch in pixels.
    sigma_px
        Standard deviation of the blur in pixels; 0 = none.

    Returns
    -------
    (B, D, H, W) tensor in the dtype and on the device of `embedding`.

    Raises
    ------
    InputError
        As in :func:`splat`; also where a patch index is outside ``0..batch_size-1``.

    Examples
    --------
    >>> import torch
    >>> from sjg.raster import splat_batch
    >>> coords, gene = torch.tensor([[0.5, 0.5], [1.5, 0.5]]), torch.tensor([0, 0])
    >>> splat_batch(coords, gene, torch.tensor([0, 1]), torch.ones(1, 3), batch_size=2, shape=(2, 2), sigma_px=0).shape
    torch.Size([2, 3, 2, 2])
    """
    if embedding.ndim != 2 or not embedding.is_floating_point():
        raise InputError(f"embedding is {embedding.dtype} of shape {tuple(embedding.shape)}; give a floating point (G, D) tensor.")
    height, width = _check_shape(shape)
    device = embedding.device
    coords_px, gene, batch_index = (torch.as_tensor(a, device=device) for a in (coords_px, gene, batch_index))
    _check_transcripts(coords_px, gene, batch_index, n_genes=embedding.shape[0], batch_size=batch_size)
    n_pixels = batch_size * height * width
    pixel = _pixel_index(coords_px, batch_index, (height, width), outside=n_pixels)
    # Outside transcripts fall into one spare row: no data-dependent shape, so no wait for the GPU.
    raster = embedding.new_zeros(n_pixels + 1, embedding.shape[1]).index_add(0, pixel, embedding.index_select(0, gene.long()))
    raster = raster[:n_pixels].view(batch_size, height, width, -1).permute(0, 3, 1, 2).contiguous()
    return gaussian_blur(raster, sigma_px)


def bin_counts(coords_px: Tensor, gene: Tensor, shape: Sequence[int], *, n_genes: int) -> Tensor:
    """Dense histogram of the transcripts of each gene: the oracle of :func:`splat` and the published network's input.

    Parameters
    ----------
    coords_px
        (N, 2) positions as (y, x) in grid pixels; ignored where outside `shape`.
    gene
        (N,) integer gene index, ``0..n_genes-1``.
    shape
        (H, W) in pixels.
    n_genes
        Number of genes G.

    Returns
    -------
    (G, H, W) float32 counts; memory is 4 G H W bytes.

    Raises
    ------
    InputError
        As in :func:`splat`.

    Examples
    --------
    >>> import torch
    >>> from sjg.raster import bin_counts
    >>> int(bin_counts(torch.tensor([[0.5, 1.2], [9.0, 9.0]]), torch.tensor([1, 1]), (2, 3), n_genes=2).sum())
    1
    """
    height, width = _check_shape(shape)
    coords_px, gene = torch.as_tensor(coords_px), torch.as_tensor(gene)
    _check_transcripts(coords_px, gene, torch.zeros_like(gene), n_genes=n_genes, batch_size=1)
    n_cells = n_genes * height * width
    # A gene is a plane exactly as a patch is one.
    index = _pixel_index(coords_px, gene, (height, width), outside=n_cells)
    counts = torch.bincount(index, minlength=n_cells + 1)[:n_cells]
    return counts.view(n_genes, height, width).float()


def _pixel_index(coords_px: Tensor, plane: Tensor, shape: tuple[int, int], *, outside: int) -> Tensor:
    """(N,) flat index into (planes, H, W); `outside` where the transcript lies outside its plane."""
    height, width = shape
    y, x = coords_px.floor().long().unbind(1) if coords_px.is_floating_point() else coords_px.long().unbind(1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return torch.where(inside, (plane.long() * height + y) * width + x, outside)


def _check_shape(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"shape is {tuple(shape)}; give (height, width) in pixels, both >= 1.")
    return int(shape[0]), int(shape[1])


def _check_transcripts(coords_px: Tensor, gene: Tensor, batch_index: Tensor, *, n_genes: int, batch_size: int) -> None:
    n = len(gene)
    if gene.ndim != 1 or coords_px.shape != (n, 2) or batch_index.shape != (n,):
        raise InputError(
            f"coords_px {tuple(coords_px.shape)}, gene {tuple(gene.shape)}, batch_index {tuple(batch_index.shape)}; "
            "give (N, 2) as (y, x), (N,) and (N,)."
        )
    for name, index, size in (("gene", gene, n_genes), ("batch_index", batch_index, batch_size)):
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise InputError(f"{name} has dtype {index.dtype}; give integers.")
        if n and not bool(((index >= 0) & (index < size)).all()):
            raise InputError(f"{name} reaches from {int(index.min())} to {int(index.max())}; valid are 0..{size - 1}.")
    if not bool(torch.isfinite(coords_px).all()):
        raise InputError("coords_px has positions that are not finite; drop those transcripts.")
