"""The attribution gate: a confident pixel becomes a label only where the attribution of its type agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sjg.attribution import type_attribution, type_contribution
from sjg.raster import gaussian_blur
from sjg.training._importance import patch_inputs
from sjg.training._model import CompetitionModel
from sjg.training._parameters import Parameters
from sjg.training._state import CellState
from sjg.training._tissue import Tissue
from sjg.training._windows import Window, tiles

_PATCH_PX = 128
_HALO_PX = 16
#: backward passes of a refresh per training step of a round: with these sizes about a tenth of the round's time
_PASSES_PER_STEP = 0.5
#: blur of the attribution in median nuclear radii; a single probe is noisy pixel by pixel and sharp over such a neighbourhood
_BLUR_RADII = 0.3
_TOP_FRACTION = 0.1


@dataclass(frozen=True)
class _Verdict:
    """Where each of the types of a patch may be a label: (T, H, W) of the window; row of each type, -1 = not judged."""

    window: Window
    row: NDArray[np.int64]
    allowed: NDArray[np.bool_]


class AttributionGate:
    """Judges patches by attribution once a round, and pixels by the patch they lie in.

    Attribution costs one backward pass for each type of a patch, so a round can afford some patches, drawn at random; elsewhere, and for types
    without a cell in the patch, every label passes. Nothing outlives the round.

    Parameters
    ----------
    parameters
        ``attribution_gate``: ``"dominant"`` (the type whose attribution is the largest, as published), ``"contrast"`` (the same after
        each type's mean over the patch is taken off: logits of different classes have no common unit), ``"top_fraction"`` (a tenth of the
        patch, the highest for the type; second published form) or ``"evidence"`` (the type for which the transcripts there speak most,
        :func:`sjg.attribution.type_contribution`). ``attribution_epoch``: round, from 0, in which it starts.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._verdicts: list[_Verdict] = []

    def refresh(self, model: CompetitionModel, tissue: Tissue, state: CellState, *, epoch: int, rng: np.random.Generator) -> None:
        """Forget the last round and judge patches for this one.

        Parameters
        ----------
        model
            Model with a network.
        tissue, state
            Molecules, nuclei and current types.
        epoch
            The round that starts, from 0.
        rng
            Draws patches and probes.
        """
        self._verdicts = []
        if self._parameters.attribution_gate == "none" or model.network is None or epoch < self._parameters.attribution_epoch:
            return
        code = state.posterior.argmax(1).cpu().numpy()
        windows = list(tiles(tissue.shape, _PATCH_PX))
        generator = torch.Generator(device=state.density.device).manual_seed(int(rng.integers(2**31)))
        left = math.ceil(_PASSES_PER_STEP * self._parameters.steps_per_round)
        for i in rng.permutation(len(windows)):
            window = windows[i]
            cells = np.unique(window.grown(_HALO_PX).cut(tissue.labels))
            types = np.unique(code[cells[cells > 0] - 1])
            if len(types) < 2:
                continue  # nothing to compare
            left -= len(types)
            if left < 0 and self._verdicts:
                break
            self._verdicts.append(self._judge(model, tissue, state, window, types, generator))

    def passes(self, pixel: NDArray[np.integer], types: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(P,) whether each of (P, 2) pixels of the tissue may get a label of a (P,) type."""
        out = np.ones(len(pixel), bool)
        for verdict in self._verdicts:
            y, x = pixel[:, 0] - verdict.window.y0, pixel[:, 1] - verdict.window.x0
            row = verdict.row[types]
            judged = (y >= 0) & (y < verdict.window.height) & (x >= 0) & (x < verdict.window.width) & (row >= 0)
            out[judged] = verdict.allowed[row[judged], y[judged], x[judged]]
        return out

    def tensors(self) -> list[tuple[tuple[int, int, int, int], torch.Tensor, torch.Tensor]]:
        """The verdicts of this round, for a checkpoint within it."""
        return [
            ((v.window.y0, v.window.x0, v.window.height, v.window.width), torch.from_numpy(v.row), torch.from_numpy(v.allowed))
            for v in self._verdicts
        ]

    def restore(self, tensors: list[tuple[tuple[int, int, int, int], torch.Tensor, torch.Tensor]]) -> None:
        """Take up what :meth:`tensors` gave."""
        self._verdicts = [_Verdict(Window(*place), row.cpu().numpy(), allowed.cpu().numpy()) for place, row, allowed in tensors]

    def _judge(
        self,
        model: CompetitionModel,
        tissue: Tissue,
        state: CellState,
        window: Window,
        types: NDArray[np.int64],
        generator: torch.Generator,
    ) -> _Verdict:
        maps, embedding, head, sigma_px, _ = patch_inputs(model, tissue, state, window.grown(_HALO_PX))
        target = [int(t) + 1 for t in types]
        blur_px = _BLUR_RADII * tissue.radius_px
        if self._parameters.attribution_gate == "evidence":
            found = gaussian_blur(type_contribution(head, maps, target), blur_px)
        else:
            found = type_attribution(head, maps, embedding, target, sigma_px=sigma_px, n_probes=1, generator=generator, probes="signs")
            # Mean squares, not mean logarithms: one probe can vanish at a pixel.
            found = gaussian_blur((2 * found).exp(), blur_px)
            found = found.clamp_min(torch.finfo(found.dtype).tiny).log()
        score = found[0, :, _HALO_PX:-_HALO_PX, _HALO_PX:-_HALO_PX].cpu().numpy()
        row = np.full(state.posterior.shape[1], -1, np.int64)
        row[types] = np.arange(len(types))
        return _Verdict(window, row, _allowed(score, self._parameters.attribution_gate))


def _allowed(score: NDArray[np.floating], gate: str) -> NDArray[np.bool_]:
    """(T, H, W) attribution -> where each type may be."""
    if gate == "top_fraction":
        threshold = np.quantile(score, 1 - _TOP_FRACTION, axis=(1, 2), keepdims=True)
        return np.asarray(score >= threshold)
    if gate == "contrast":
        score = score - score.mean((1, 2), keepdims=True)
    return np.asarray(score == score.max(0))
