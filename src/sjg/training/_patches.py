"""Training patches: where they lie, and what of them does not depend on the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sjg.core import generator
from sjg.training._judges import ClaimJudge
from sjg.training._parameters import Parameters
from sjg.training._tissue import Points, Tissue
from sjg.training._windows import Window
from sjg.training._workers import in_order

#: (1, step, patch of the step): what the random numbers of a patch are drawn from
Stream = tuple[int, int, int]


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
        inside = near[window.holds(tissue.molecules.yx_px[near])]
        pixels = self.pixels(window, rng, side)
        points, molecules = tissue.points(pixels + 0.5, halo), tissue.points(tissue.molecules.yx_px[inside], halo)
        source, place = judge(halo, inside, molecules, points)
        return JudgedPatch(rng, window, halo, near, inside, pixels, molecules, points, source, place, tissue.context(halo))


class PatchesAhead:
    """Judged patches in the order in which training asks for them; workers make those of the rest of the round meanwhile.

    Parameters
    ----------
    patches
        Draws them.
    random_state
        Seed of the run.
    share
        The patches of each step that this process has.
    """

    def __init__(self, patches: Patches, random_state: int, *, share: Sequence[int]) -> None:
        self._patches, self._random_state, self._share = patches, random_state, share
        self._made: Generator[JudgedPatch] | None = None
        self._coming: deque[Stream] = deque()
        self._made_with: tuple[int, ClaimJudge] | None = None

    def take(self, stream: Stream, side: int, judge: ClaimJudge, *, until_step: int, n_workers: int) -> JudgedPatch:
        """The patch of a stream; what was made ahead for another one, with another side or by another judge is dropped.

        No patch is made ahead for `until_step` and later: the next round has another judge.
        """
        if self._made is None or not self._coming or self._coming[0] != stream or self._made_with != (side, judge):
            self.close()
            self._coming, self._made_with = deque(self._up_to(until_step, stream)), (side, judge)
            self._made = in_order(
                lambda one: self._patches.judged(generator(self._random_state, *one), side, judge), list(self._coming), n_workers
            )
        self._coming.popleft()
        return next(self._made)

    def close(self) -> None:
        """Let go of what was made ahead."""
        if self._made is not None:
            self._made.close()
        self._made = None

    def _up_to(self, until_step: int, stream: Stream) -> list[Stream]:
        first, step, patch = stream
        return [(first, s, p) for s in range(step, max(until_step, step + 1)) for p in self._share if (s, p) >= (step, patch)]
