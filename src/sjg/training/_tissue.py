"""The whole tissue in arrays, and the parts and batches that are cut from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi

from sjg.core import Molecules, parts, release, values_at
from sjg.training._model import Batch
from sjg.training._nuclei import Nuclei, asked_in, measure_nuclei, nearest_candidates
from sjg.training._parameters import Parameters
from sjg.training._plan import Crowd
from sjg.training._state import CellState
from sjg.training._windows import MoleculeIndex, Window

_CONTEXT_CLIP_RADII = 3.0
#: quantile of the densities that the planner reckons with
_DENSE = 0.95


@dataclass(frozen=True)
class Points:
    """Where the competition is evaluated: P positions and their M nearest nuclei.

    Parameters
    ----------
    yx_px
        (P, 2) in grid pixels.
    pixel
        (P,) flat index into the pixels of a window.
    candidate
        (P, M) nuclei from 0.
    signed_px, centre_px
        (P, M) distances to outline and centre.
    nucleus
        (P,) nucleus that holds the point, 0 = none.
    """

    yx_px: NDArray[np.float32]
    pixel: NDArray[np.int64]
    candidate: NDArray[np.int64]
    signed_px: NDArray[np.float32]
    centre_px: NDArray[np.float32]
    nucleus: NDArray[np.int32]

    def __getitem__(self, index: slice | NDArray) -> Points:
        return Points(*(getattr(self, f)[index] for f in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.pixel)

    @staticmethod
    def join(first: Points, second: Points) -> Points:
        """The points of both, in order."""
        return Points(*(np.concatenate([getattr(first, f), getattr(second, f)]) for f in Points.__dataclass_fields__))

    def winner(self, slot: NDArray[np.integer]) -> NDArray[np.int32]:
        """(P,) id of the candidate in each slot; 0 for the slot after the last, background."""
        last = self.candidate.shape[1] - 1
        cell = self.candidate[np.arange(len(slot)), np.minimum(slot, last)] + 1
        return np.where(slot <= last, cell, 0).astype(np.int32)


class TissueView:
    """Molecules and nuclei, of the whole tissue or of a part; knows how to cut windows.

    Places count from the corner of the whole tissue, nuclei from the first one of the view.

    Parameters
    ----------
    labels
        (H, W) nuclei, ids 1..n without gaps.
    origin
        (y, x) in the tissue of the first pixel of `labels`.
    nuclei
        The n nuclei.
    molecules
        N molecules.
    parameters
        Settings.
    """

    def __init__(
        self, labels: NDArray[np.integer], origin: tuple[int, int], nuclei: Nuclei, molecules: Molecules, parameters: Parameters
    ) -> None:
        self.labels, self.nuclei, self.molecules = labels, nuclei, molecules
        self._origin, self._parameters = origin, parameters
        self.radius_px = nuclei.median_radius_px
        self.reach_px = parameters.reach_radii * self.radius_px

    def molecules_in(self, window: Window) -> NDArray[np.int64]:
        """Indices into :attr:`molecules` of those inside a window."""
        return np.flatnonzero(window.holds(self.molecules.yx_px))

    def labels_in(self, window: Window) -> NDArray[np.integer]:
        """Nuclei of the pixels of a window, 0 beyond the labels."""
        return window.moved(-self._origin[0], -self._origin[1]).cut(self.labels)

    @property
    def context_margin_px(self) -> int:
        """How far beyond a window :meth:`context` looks."""
        return int(np.ceil(2 * _CONTEXT_CLIP_RADII * self.radius_px))

    @property
    def reach_margin_px(self) -> int:
        """How far beyond a window :meth:`reachable` looks."""
        return int(np.ceil(self.reach_px)) + 2

    def nuclei_near(self, window: Window) -> bool:
        """Whether any nucleus can reach the window."""
        y1, x1 = np.array([window.y0, window.x0]), np.array([window.y0 + window.height, window.x0 + window.width])
        centre = (y1 + x1) / 2
        radius = float(np.hypot(window.height, window.width)) / 2 + self.reach_px + float(self.nuclei.outline_px.max())
        return len(self.nuclei.tree.query_ball_point(centre, radius)) > 0

    def reachable(self, window: Window) -> NDArray[np.bool_]:
        """(H, W) of the window: pixels outside nuclei that some nucleus can reach."""
        margin = self.reach_margin_px
        nuclei = self.labels_in(window.grown(margin))
        if not nuclei.any():
            return np.zeros((window.height, window.width), bool)
        distance = ndi.distance_transform_edt(nuclei == 0)[margin:-margin, margin:-margin]
        return (distance > 0) & (distance <= self.reach_px)

    def context(self, window: Window) -> NDArray[np.float32]:
        """What the network knows of the nuclei, (3, H, W) of the window.

        Nuclear mask, signed distance to the nearest nucleus and distance to the border between the territories of nearest nuclei,
        both in median radii and clipped.
        """
        margin = self.context_margin_px
        nuclei = self.labels_in(window.grown(margin))
        inner = (slice(margin, -margin),) * 2
        clip = _CONTEXT_CLIP_RADII
        out = np.zeros((3, window.height, window.width), np.float32)
        if not self._parameters.use_context:
            return out
        if not nuclei.any():
            out[1:] = clip
            return out
        outside, nearest = ndi.distance_transform_edt(nuclei == 0, return_indices=True)
        inside = ndi.distance_transform_edt(nuclei > 0)
        territory = nuclei[nearest[0], nearest[1]]
        border = np.zeros(territory.shape, bool)
        horizontal, vertical = territory[:, 1:] != territory[:, :-1], territory[1:] != territory[:-1]
        border[:, 1:] |= horizontal
        border[:, :-1] |= horizontal
        border[1:] |= vertical
        border[:-1] |= vertical
        to_border = ndi.distance_transform_edt(~border) if border.any() else np.full(territory.shape, np.inf)
        out[0] = (nuclei > 0)[inner]
        out[1] = np.clip((outside - inside)[inner] / self.radius_px, -1.0, clip)
        out[2] = np.clip(to_border[inner] / self.radius_px, 0.0, clip)
        return out

    def points(self, yx_px: NDArray[np.floating], window: Window) -> Points:
        """Candidates of positions inside a window."""
        position = np.asarray(yx_px, np.float32)
        pixel = np.floor(position).astype(np.int64)
        candidate, signed, centre = nearest_candidates(self.nuclei, position, self._parameters.n_candidates)
        flat = (pixel[:, 0] - window.y0) * window.width + pixel[:, 1] - window.x0
        nucleus = self.labels[pixel[:, 0] - self._origin[0], pixel[:, 1] - self._origin[1]]
        return Points(position, flat, candidate, signed, centre, nucleus.astype(np.int32))

    def batch(
        self,
        window: Window,
        context: NDArray[np.float32],
        inputs: NDArray[np.int64],
        input_fraction: float,
        points: Points,
        state: CellState,
        *,
        density_scale: float | None = None,
    ) -> Batch:
        """Tensors for :class:`CompetitionModel` on the device of `state`.

        Parameters
        ----------
        window
            Window that `points.pixel` refers to.
        context
            :meth:`context` of the window.
        inputs
            Molecules that the network sees.
        input_fraction
            Fraction of all molecules that they are.
        points
            Where to evaluate.
        state
            Current estimates of the cells.
        density_scale
            Density that counts as typical for a cell; None uses the median.
        """
        device = state.density.device

        def tensor(a: NDArray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.as_tensor(a, dtype=dtype, device=device)

        candidate = tensor(points.candidate, torch.long)
        index, weight = state.leading_types()
        radius = self.nuclei.radius_px[points.candidate]
        typical = density_scale if density_scale is not None else state.median_density
        own = points.candidate + 1 == points.nucleus[:, None]
        slot = np.where(own.any(1) & (points.nucleus > 0), own.argmax(1), -1)
        origin = np.array([window.y0, window.x0], np.float32)
        return Batch(
            coords_px=tensor(self.molecules.yx_px[inputs] - origin),
            gene=tensor(self.molecules.gene[inputs], torch.long),
            input_fraction=input_fraction,
            context=tensor(context),
            pixel=tensor(points.pixel, torch.long),
            signed_radii=tensor(points.signed_px / self.radius_px),
            centre_radii=tensor(points.centre_px / radius),
            log_radius=tensor(np.log(radius / self.radius_px)),
            log_density=torch.log(state.density / typical)[candidate].clamp(-3, 3),
            type_index=index[candidate],
            type_weight=weight[candidate],
            own=tensor(slot, torch.long),
        )


class Tissue(TissueView):
    """The whole tissue, with an index of its molecules.

    Parameters
    ----------
    molecules
        N molecules.
    nuclei_labels
        (H, W) int32, ids 1..n without gaps.
    parameters
        Settings.
    """

    labels: NDArray[np.int32]

    def __init__(self, molecules: Molecules, nuclei_labels: NDArray[np.int32], parameters: Parameters) -> None:
        self._index = MoleculeIndex(molecules, nuclei_labels.shape)
        # its molecules are in the order of the index, see :meth:`as_given`
        super().__init__(nuclei_labels, (0, 0), measure_nuclei(nuclei_labels), self._index.molecules, parameters)
        n = len(molecules)
        #: (N,) nucleus of each of :attr:`molecules`, 0 = none
        self.nucleus_of = values_at(nuclei_labels, self.molecules.yx_px)
        n_inside = max(sum(int(np.count_nonzero(self.nucleus_of[rows])) for rows in parts(n)), 1)
        #: molecules per pixel inside nuclei
        nuclear_area = float((np.pi * self.nuclei.radius_px**2).sum())
        self.density = n_inside / nuclear_area
        #: molecules per pixel outside nuclei
        self.density_outside = max(n - n_inside, 1) / max(nuclei_labels.size - nuclear_area, 1.0)
        # from here on the sorted ones are read
        release(molecules.yx_px, molecules.gene)
        self.release()

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the grid."""
        return self.labels.shape

    def molecules_in(self, window: Window) -> NDArray[np.int64]:
        """Indices into :attr:`molecules` of those inside a window."""
        return self._index.inside(window)

    def crowd(self) -> Crowd:
        """How dense molecules and nuclei are where they are dense: in 19 of 20 places that hold any, there are fewer."""
        molecules = self._index.densities()
        place = (self.nuclei.centre_px // self._index.tile_px).astype(np.int64)
        nuclei = np.bincount(place[:, 0] * molecules.shape[1] + place[:, 1], minlength=molecules.size) / self._index.tile_px**2

        def high(density: NDArray[np.float64]) -> float:
            return float(np.quantile(density[density > 0], _DENSE)) if (density > 0).any() else 0.0

        return Crowd(high(molecules), high(nuclei), self.radius_px, len(self.molecules.gene_names))

    def as_given(self, values: NDArray) -> NDArray:
        """Values by molecule in the order in which the molecules were given to this tissue."""
        return self._index.as_given(values)

    def release(self) -> None:
        """Give back the memory in which parts of memory-mapped arrays are held."""
        release(self.molecules.yx_px, self.molecules.gene, self.nucleus_of, self.labels, self._index.place)

    def part(self, window: Window, n_candidates: int) -> Part:
        """Copies of all that a judge may ask of the points of a window.

        Parameters
        ----------
        window
            May reach beyond the tissue.
        n_candidates
            Nearest nuclei that a point is asked for at most.
        """
        inside = window.within(self.shape)
        labels, molecule = inside.of(self.labels), self.molecules_in(window)
        low, high = np.array([window.y0, window.x0]), np.array([window.y0 + window.height, window.x0 + window.width])
        present = np.zeros(len(self.nuclei) + 1, bool)
        present[labels] = True
        present[asked_in(self.nuclei, low, high, n_candidates) + 1] = True
        nucleus = np.flatnonzero(present[1:])
        number = np.zeros(len(present), np.min_scalar_type(len(nucleus)))
        number[nucleus + 1] = np.arange(1, len(nucleus) + 1)
        # what the genes are called is nothing to a judge
        molecules = Molecules(self.molecules.yx_px[molecule], self.molecules.gene[molecule], ())
        view = TissueView(number[labels], (inside.y0, inside.x0), self.nuclei.of(nucleus), molecules, self._parameters)
        return Part(view, nucleus, molecule)


@dataclass(frozen=True)
class Part:
    """A part of a tissue, with copies of what it holds.

    Parameters
    ----------
    tissue
        The part; its nuclei and molecules are numbered anew, in the same order.
    nucleus, molecule
        Index in the whole tissue of each of its nuclei and of its molecules.
    """

    tissue: TissueView
    nucleus: NDArray[np.int64]
    molecule: NDArray[np.int64]
