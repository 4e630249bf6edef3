"""What the claim network sees: a crop around each nucleus, in units of the median nuclear radius."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sjg.raster import gaussian_blur
from sjg.training._nuclei import Nuclei, nearest_candidates, outline_distance
from sjg.training._scene import Scene

#: side of a lattice cell in median nuclear radii, and of a crop in lattice cells
STEP_RADII = 0.25
SIDE = 40
#: a cell claims nothing beyond this distance from its nucleus
REACH_RADII = 4.5
#: blur of the molecules in lattice cells
_SIGMAS = (0.7, 1.8)
_DENSITY_FLOOR = 0.03
_N_RIVALS = 2
#: nearest nuclei that a place of a crop is asked for
N_NEAREST = _N_RIVALS + 1
N_CHANNELS = 21


@dataclass(frozen=True)
class MoleculeEvidence:
    """Molecules with their candidate cells.

    Parameters
    ----------
    yx_px
        (N, 2) positions.
    candidate, signed_px
        (N, M) nuclei from 0, nearest outline first, and the distances to their outlines; infinite where there are fewer than M nuclei.
    log_ratio
        (N, M) log probability of the molecule's gene in each candidate against that in the whole tissue.
    """

    yx_px: NDArray[np.float32]
    candidate: NDArray[np.int64]
    signed_px: NDArray[np.float32]
    log_ratio: Tensor


class Lattice:
    """A regular lattice over a part of the tissue, aligned with the origin of the grid, so that parts agree where they overlap.

    Parameters
    ----------
    nuclei
        All nuclei.
    low_px, high_px
        Corners of the part, (y, x).
    """

    def __init__(self, nuclei: Nuclei, low_px: NDArray[np.floating], high_px: NDArray[np.floating]) -> None:
        self.nuclei = nuclei
        self.radius_px = nuclei.median_radius_px
        self.step_px = STEP_RADII * self.radius_px
        self.origin = np.floor(np.asarray(low_px) / self.step_px).astype(np.int64)
        self.shape = tuple(int(v) for v in np.floor(np.asarray(high_px) / self.step_px).astype(np.int64) - self.origin + 1)
        rows, columns = np.meshgrid(*(np.arange(s) for s in self.shape), indexing="ij")
        centre = (np.stack([rows.ravel(), columns.ravel()], 1) + self.origin + 0.5) * self.step_px
        self.candidate, self.signed_px, _ = nearest_candidates(nuclei, centre, N_NEAREST)

    def crop_origins(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2) lattice cell at the corner of each crop, counted from the origin of the grid."""
        return crop_origins(self.nuclei, cells, self.step_px)

    def crops(
        self,
        cells: NDArray[np.int64],
        molecules: MoleculeEvidence,
        *,
        log_density: NDArray[np.float32],
        typical_density: float,
        scene: Scene,
    ) -> Tensor:
        """(n, N_CHANNELS, SIDE, SIDE) inputs of the claim network, on the device of the molecules' evidence.

        Parameters
        ----------
        cells
            (n,) nuclei from 0 whose crops lie on this lattice.
        molecules
            Molecules of the part.
        log_density
            (all nuclei,) log density of each cell, relative to the typical one.
        typical_density
            Molecules per pixel of a typical cell.
        scene
            Of the whole tissue.
        """
        corner = self.crop_origins(cells) - self.origin
        steps = np.arange(SIDE)
        node = (corner[:, 0, None] + steps)[:, :, None] * self.shape[1] + (corner[:, 1, None] + steps)[:, None, :]
        node = node.reshape(len(cells), -1)
        centre = np.stack([node // self.shape[1] + self.origin[0] + 0.5, node % self.shape[1] + self.origin[1] + 0.5], -1) * self.step_px
        own = outline_distance(self.nuclei, cells, centre) / self.radius_px
        rival, rival_px = _rivals(self.candidate[node], self.signed_px[node], cells[:, None])
        first, second = (np.clip(rival_px[..., k] / self.radius_px, -1.5, 5) for k in range(_N_RIVALS))
        own = np.clip(own, -1.5, 5)
        log_radius = np.log(self.nuclei.radius_px / self.radius_px)
        full = np.ones_like(own)
        channels = [
            own,
            first,
            second,
            np.clip(first - own, -4, 4),
            full * log_radius[cells][:, None],
            log_radius[rival[..., 0]],
            full * log_density[cells][:, None],
            log_density[rival[..., 0]],
            *(full * value for value in scene.channels()),
        ]
        geometry = torch.from_numpy(np.stack(channels, 1).astype(np.float32)).view(len(cells), -1, SIDE, SIDE)
        found = self._molecule_channels(cells, molecules, typical_density)
        return torch.cat([geometry.to(found.device), found], 1)

    def _molecule_channels(self, cells: NDArray[np.int64], molecules: MoleculeEvidence, typical_density: float) -> Tensor:
        """(n, 9, SIDE, SIDE): density, and evidence for the cell against the tissue and against the nearest rivals, at two scales."""
        sums = self._splat(cells, molecules)
        raw = torch.cat([self._counts(cells, molecules)[:, None].to(sums.device), sums], 1)
        out = []
        for sigma in _SIGMAS:
            blurred = gaussian_blur(raw, sigma)
            # A kernel of peak 1 turns the blur into a sum over an effective number of lattice cells.
            evidence = torch.asinh(blurred[:, 1:] * (4 * math.pi * sigma**2))
            density = blurred[:, :1].clamp(min=0) / (typical_density * self.step_px**2)
            out += [torch.log(density + _DENSITY_FLOOR), evidence]
        return torch.cat(out, 1)

    def _counts(self, cells: NDArray[np.int64], molecules: MoleculeEvidence) -> Tensor:
        """(n, SIDE, SIDE) molecules of any cell."""
        place = np.floor(molecules.yx_px / self.step_px).astype(np.int64) - self.origin
        on = ((place >= 0) & (place < self.shape)).all(1)
        flat = place[on, 0] * self.shape[1] + place[on, 1]
        counts = torch.from_numpy(np.bincount(flat, minlength=self.shape[0] * self.shape[1]).reshape(self.shape).astype(np.float32))
        corner = torch.from_numpy(self.crop_origins(cells) - self.origin)
        steps = torch.arange(SIDE)
        return counts[(corner[:, :1] + steps)[:, :, None], (corner[:, 1:] + steps)[:, None, :]]

    def _splat(self, cells: NDArray[np.int64], molecules: MoleculeEvidence) -> Tensor:
        """(n, 3, SIDE, SIDE) sums of evidence for the cell: against the tissue, against its nearest and its second rival."""
        n_candidates = molecules.candidate.shape[1]
        slot_of = np.full(len(self.nuclei), -1, np.int64)
        slot_of[cells] = np.arange(len(cells))
        crop = np.where(np.isfinite(molecules.signed_px), slot_of[molecules.candidate], -1)
        which, slot = np.nonzero(crop >= 0)
        crop = crop[which, slot]
        place = np.floor(molecules.yx_px[which] / self.step_px).astype(np.int64) - self.crop_origins(cells)[crop]
        on = ((place >= 0) & (place < SIDE)).all(1)
        which, slot, crop, place = which[on], slot[on], crop[on], place[on]
        device = molecules.log_ratio.device
        rows = molecules.log_ratio[torch.as_tensor(which, device=device)]
        own = rows.gather(1, torch.as_tensor(slot, device=device)[:, None])[:, 0]
        # The nearest other candidates of a molecule: the first ones of its list that are not the cell itself.
        others = [torch.as_tensor(np.minimum(k + (slot <= k), n_candidates - 1), device=device) for k in range(_N_RIVALS)]
        values = torch.stack([own] + [own - rows.gather(1, o[:, None])[:, 0] for o in others], 1)
        flat = torch.as_tensor((crop * SIDE + place[:, 0]) * SIDE + place[:, 1], device=device)
        out = torch.zeros(len(cells) * SIDE * SIDE, 1 + _N_RIVALS, device=device).index_add_(0, flat, values)
        return out.view(len(cells), SIDE, SIDE, -1).permute(0, 3, 1, 2)


def crop_origins(nuclei: Nuclei, cells: NDArray[np.int64], step_px: float) -> NDArray[np.int64]:
    """(n, 2) lattice cell at the corner of each crop, counted from the origin of the grid."""
    origin: NDArray[np.int64] = np.floor(nuclei.centre_px[cells] / step_px).astype(np.int64) - SIDE // 2
    return origin


def _rivals(
    candidate: NDArray[np.int64], signed_px: NDArray[np.float32], cell: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest candidates other than the cell itself, from lists with the nearest first."""
    itself = candidate == cell[..., None]
    before = np.cumsum(itself, -1)
    rank = np.arange(_N_RIVALS)
    take = rank + (before[..., :_N_RIVALS] > 0)
    distance = np.take_along_axis(signed_px, take, -1)
    repeated = np.take_along_axis(itself, take, -1)
    return np.take_along_axis(candidate, take, -1), np.where(repeated, np.inf, distance)
