"""Training patches: where they lie, and what of them does not depend on the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sjg.training._judges import ClaimJudge
from sjg.training._parameters import Parameters
from sjg.training._tissue import Points, Tissue
from sjg.training._windows import Window


@dataclass(frozen=True)
class JudgedPatch:
    """A patch whose molecules and pixels were judged by claims.

    Parameters
    ----------
    rng
        Random state after the draw, for what is random in the step itself.
    window, halo
        The patch, and with its margin.
    near, inside
        Molecules in the halo and in the patch.
    pixels
        (P, 2) sample of the pixels.
    molecules, points
        Candidates of the molecules inside and of the pixels.
    source, place
        Their probabilities, see :class:`sjg.training._judges.Judge`.
    context
        :meth:`Tissue.context` of the halo.
    """

    rng: np.random.Generator
    window: Window
    halo: Window
    near: NDArray[np.int64]
    inside: NDArray[np.int64]
    pixels: NDArray[np.int64]
    molecules: Points
    points: Points
    source: Tensor
    place: Tensor
    context: NDArray[np.float32]


class Patches:
    """Draws patches of a tissue.

    Parameters
    ----------
    tissue
        Molecules and nuclei.
    parameters
        Settings.
    """

    def __init__(self, tissue: Tissue, parameters: Parameters) -> None:
        self._tissue, self._parameters = tissue, parameters
        side = parameters.patch_size_px
        height, width = tissue.shape
        cell = (tissue.nuclei.centre_px // side).astype(np.int64)
        corners = np.unique(cell, axis=0) * side
        # corners of a regular grid of patches that hold nuclei
        self._starts = np.minimum(corners, np.maximum(np.array([height - side, width - side]), 0))

    def window(self, rng: np.random.Generator, side: int) -> Window:
        """A patch of `side` pixels, or as large as the tissue."""
        height, width = self._tissue.shape
        y0, x0 = self._starts[int(rng.integers(len(self._starts)))]
        jitter_y, jitter_x = rng.integers(-side // 2, side // 2 + 1, 2)
        h, w = min(side, height), min(side, width)
        return Window(int(np.clip(y0 + jitter_y, 0, height - h)), int(np.clip(x0 + jitter_x, 0, width - w)), h, w)

    def pixels(self, window: Window, rng: np.random.Generator, side: int) -> NDArray[np.int64]:
        """(P, 2) pixels of a patch, at random."""
        # a patch that had to shrink has its share of the points
        share = (side / self._parameters.patch_size_px) ** 2
        n = min(max(1, int(self._parameters.points_per_patch * share)), window.height * window.width)
        flat = rng.integers(0, window.height * window.width, n)
        return np.stack([flat // window.width + window.y0, flat % window.width + window.x0], 1)

    def judged(self, rng: np.random.Generator, side: int, judge: ClaimJudge) -> JudgedPatch:
        """A patch and what claims say of it; changes nothing but `rng`."""
        tissue = self._tissue
        window = self.window(rng, side)
        halo = window.grown(self._parameters.halo_px)
        near = tissue.molecules_in(halo)
        inside = near[inside_of(tissue.molecules.yx_px[near], window)]
        pixels = self.pixels(window, rng, side)
        points, molecules = tissue.points(pixels + 0.5, halo), tissue.points(tissue.molecules.yx_px[inside], halo)
        source, place = judge(halo, inside, molecules, points)
        return JudgedPatch(rng, window, halo, near, inside, pixels, molecules, points, source, place, tissue.context(halo))


def inside_of(yx: NDArray, window: Window) -> NDArray[np.bool_]:
    """(N,) whether positions (N, 2) lie in a window."""
    y, x = yx[:, 0] - window.y0, yx[:, 1] - window.x0
    return (y >= 0) & (y < window.height) & (x >= 0) & (x < window.width)
