"""What the published network sees: transcripts, or densities given as channels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sjg.core import Channels, Molecules
from sjg.raster import splat_batch
from sjg.training._windows import MoleculeIndex, Window, tiles

_BLOCK_PX = 256


class TranscriptFeatures:
    """Transcripts; their densities are splatted through the embedding of the genes, never made.

    Parameters
    ----------
    molecules
        N transcripts.
    shape
        (H, W) of the grid.
    sigma_px
        Blur of the densities.
    """

    def __init__(self, molecules: Molecules, shape: tuple[int, int], *, sigma_px: float) -> None:
        self.names, self.shape, self.sigma_px = molecules.gene_names, shape, sigma_px
        self._index = MoleculeIndex(molecules, shape)
        # in the order of the index
        self._molecules = self._index.molecules
        #: blurred transcripts reach this far into a window
        self._margin_px = int(np.ceil(4 * sigma_px)) + 1

    def maps(self, windows: Sequence[Window], embedding: Tensor) -> Tensor:
        """(B, D, h, w) blurred densities of windows of one size, mapped by the (C, D) `embedding`."""
        margin = self._margin_px
        grown = [window.grown(margin) for window in windows]
        found = [self._index.inside(window) for window in grown]
        origin = np.concatenate([np.tile(np.array([[w.y0, w.x0]], np.float32), (len(f), 1)) for f, w in zip(found, grown, strict=True)])
        rows = np.concatenate(found)
        device = embedding.device
        out = splat_batch(
            torch.as_tensor(self._molecules.yx_px[rows] - origin, device=device),
            torch.as_tensor(self._molecules.gene[rows], dtype=torch.long, device=device),
            torch.as_tensor(np.repeat(np.arange(len(windows)), [len(f) for f in found]), device=device),
            embedding,
            batch_size=len(windows),
            shape=(grown[0].height, grown[0].width),
            sigma_px=self.sigma_px,
        )
        return out[..., margin:-margin, margin:-margin]

    def units(self, window: Window, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(N, 2) positions in the window and (N,) genes of its transcripts."""
        rows = self._index.inside(window)
        return self._molecules.yx_px[rows] - np.array([window.y0, window.x0], np.float32), self._molecules.gene[rows].astype(np.int64)

    def totals(self, groups: NDArray[np.integer], n_groups: int) -> NDArray[np.float64]:
        """(n_groups, C) transcripts of each gene in each group of pixels 0..n_groups - 1."""
        pixel = self._molecules.yx_px.astype(np.int64)
        n_genes = len(self.names)
        flat = groups[pixel[:, 0], pixel[:, 1]].astype(np.int64) * n_genes + self._molecules.gene
        return np.bincount(flat, minlength=n_groups * n_genes).reshape(n_groups, n_genes).astype(np.float64)

    def digest(self) -> str:
        """Hash of the data."""
        found = hashlib.sha256(np.ascontiguousarray(self._molecules.yx_px).tobytes())
        found.update(np.ascontiguousarray(self._molecules.gene).tobytes())
        found.update(repr((self.names, self.shape)).encode())
        return found.hexdigest()


class ChannelFeatures:
    """Densities as they come, the input of the paper; the embedding is a 1x1 convolution on them.

    Parameters
    ----------
    channels
        C channels.
    """

    #: given densities are not blurred again
    sigma_px = 0.0

    def __init__(self, channels: Channels) -> None:
        self.names, self.shape = channels.names, channels.shape
        self._channels = channels

    def dense(self, window: Window) -> NDArray[np.float32]:
        """(C, h, w) densities, 0 beyond the grid."""
        out = np.zeros((len(self.names), window.height, window.width), np.float32)
        y0, x0 = max(window.y0, 0), max(window.x0, 0)
        y1, x1 = min(window.y0 + window.height, self.shape[0]), min(window.x0 + window.width, self.shape[1])
        if y1 > y0 and x1 > x0:
            inside = np.s_[:, y0 - window.y0 : y1 - window.y0, x0 - window.x0 : x1 - window.x0]
            out[inside] = self._channels.read(slice(y0, y1), slice(x0, x1))
        return out

    def maps(self, windows: Sequence[Window], embedding: Tensor) -> Tensor:
        """(B, D, h, w) densities of windows of one size, mapped by the (C, D) `embedding`."""
        dense = torch.as_tensor(np.stack([self.dense(window) for window in windows]), device=embedding.device)
        return torch.einsum("bchw,cd->bdhw", dense, embedding)

    def units(self, window: Window, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(N, 2) pixel centres in the window and (N,) channels of molecules drawn from the densities."""
        return draw_units(self.dense(window), rng, centred=True)

    def totals(self, groups: NDArray[np.integer], n_groups: int) -> NDArray[np.float64]:
        """(n_groups, C) sum of each channel over each group of pixels 0..n_groups - 1."""
        out = np.zeros((n_groups, len(self.names)))
        for window in tiles(self.shape, _BLOCK_PX):
            dense = self.dense(window).reshape(len(self.names), -1)
            group = window.cut(groups).ravel()
            for column, plane in enumerate(dense):
                out[:, column] += np.bincount(group, plane, n_groups)
        return out

    def digest(self) -> str:
        """Hash of the data."""
        found = hashlib.sha256(repr((self.names, self.shape)).encode())
        for window in tiles(self.shape, _BLOCK_PX):
            found.update(np.ascontiguousarray(self.dense(window)).tobytes())
        return found.hexdigest()


Features = TranscriptFeatures | ChannelFeatures


def draw_units(
    dense: NDArray[np.float32], rng: np.random.Generator, *, centred: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Molecules by a Poisson draw from (C, h, w) densities: (N, 2) positions, uniform in their pixel or at its centre, and (N,) channels."""
    counts = rng.poisson(dense)
    channel, y, x = np.nonzero(counts)
    n = counts[channel, y, x]
    position = np.repeat(np.stack([y, x], 1), n, axis=0).astype(np.float32)
    # single precision must not round up into the next pixel
    position += np.float32(0.5) if centred else rng.random(position.shape, np.float32) * np.float32(0.999)
    return position, np.repeat(channel, n)


def sample_molecules(channels: Channels, rng: np.random.Generator) -> Molecules:
    """Molecules drawn from densities, for the presets that train on molecules; the same for the same generator.

    A Poisson draw keeps what the held-out likelihood rests on: given the density, molecules are independent.
    """
    features = ChannelFeatures(channels)
    yx, gene = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.int64)]
    for window in tiles(channels.shape, _BLOCK_PX):
        position, channel = draw_units(features.dense(window), rng)
        yx.append(position + np.array([window.y0, window.x0], np.float32))
        gene.append(channel)
    limit = np.nextafter(np.array(channels.shape, np.float32), np.float32(0))
    return Molecules(np.minimum(np.concatenate(yx), limit), np.concatenate(gene).astype(np.int32), channels.names)
