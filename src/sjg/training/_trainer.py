"""Self-training on molecules that the network has not seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from sjg.training._gate import AttributionGate
from sjg.training._likelihood import expected_count, molecule_rates
from sjg.training._model import CompetitionModel
from sjg.training._parameters import Parameters
from sjg.training._state import CellState, Evidence, revise
from sjg.training._tissue import Points, Tissue
from sjg.training._windows import Window

UNKNOWN = -1
_MAX_GRADIENT_NORM = 5.0
#: memory of the running mean of the weights, in steps
_AVERAGING_STEPS = 50


class Trainer:
    """Alternates steps of gradient descent with re-estimation of the cells.

    The state of a run is `model`, `optimizer`, `average`, `state`, `evidence`, `dynamic`, `rng` and `step`; nothing else changes.

    Parameters
    ----------
    tissue
        Molecules and nuclei.
    state
        Start estimates.
    model
        Its initial weights.
    parameters
        Settings.
    fabric
        Device and precision.
    rng
        Order of patches and splits of molecules.
    """

    def __init__(
        self, tissue: Tissue, state: CellState, model: CompetitionModel, parameters: Parameters, *, fabric: Fabric, rng: np.random.Generator
    ) -> None:
        self.tissue, self.state, self.parameters, self.fabric, self.rng = tissue, state, parameters, fabric, rng
        optimizer = torch.optim.Adam(model.parameter_groups(parameters.learning_rate), parameters.learning_rate)
        self.model, self.optimizer = fabric.setup(model, optimizer)
        #: running mean of the weights, which predicts better than the last step on tissue this small
        self.average = {name: value.detach().clone() for name, value in self.model.module.state_dict().items()}
        self.evidence = Evidence.empty(state)
        #: instance of each pixel, 0 = background; fixed inside nuclei, elsewhere unknown until a confident prediction
        self.dynamic = np.where(tissue.labels > 0, tissue.labels, UNKNOWN).astype(np.int32)
        #: filled anew at the start of a round, so that it is no part of the state between rounds
        self.gate = AttributionGate(parameters)
        self.step = 0
        self.starts = _patch_starts(tissue, parameters)

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return self.parameters.n_rounds * self.parameters.steps_per_round

    def train_step(self) -> dict[str, float]:
        """One patch; returns the loss per held-out molecule and the fraction of them given to cells."""
        parameters, tissue, state = self.parameters, self.tissue, self.state
        self._set_learning_rate()
        if self.step % parameters.steps_per_round == 0:
            self.gate.refresh(self.model.module, tissue, state, epoch=self.step // parameters.steps_per_round, rng=self.rng)
        window = self._draw_window()
        halo = window.grown(parameters.halo_px)
        fraction = float(self.rng.uniform(*parameters.input_fraction))
        near = tissue.molecules_in(halo)
        shown = self.rng.random(len(near)) < fraction
        target = near[~shown] if parameters.held_out else near
        target_fraction = 1 - fraction if parameters.held_out else 1.0
        yx = tissue.molecules.yx_px[target]
        target = target[_inside(yx, window)]
        n_targets = len(target)
        pixels = self._draw_pixels(window)
        points = tissue.points(np.concatenate([tissue.molecules.yx_px[target], pixels + 0.5]), halo)
        inputs = near[shown] if parameters.held_out else near
        batch = tissue.batch(halo, tissue.context(halo), inputs, fraction if parameters.held_out else 1.0, points, state)
        if parameters.augment:
            flip_y, flip_x, transpose = (bool(b) for b in self.rng.integers(0, 2, 3))
            batch = batch.oriented(flip_y=flip_y, flip_x=flip_x, transpose=transpose)
        log_weight, classes = self.model(batch, state.log_profiles, state.log_prior)

        device = log_weight.device
        candidate = torch.as_tensor(points.candidate, device=device)
        in_nucleus = torch.as_tensor(points.nucleus > 0, device=device)
        gene = torch.as_tensor(tissue.molecules.gene[target], dtype=torch.long, device=device)
        first, rest = slice(0, n_targets), slice(n_targets, None)
        rates = self.model.module
        by_cell, noise = molecule_rates(state, log_weight[first], candidate[first], gene, in_nucleus[first], rates)
        rate = by_cell.sum(1) + noise
        area = float(window.height * window.width)
        expected = expected_count(state, log_weight[rest], candidate[rest], in_nucleus[rest], rates, area)
        nll = (target_fraction * expected - torch.log(rate).sum() - n_targets * math.log(target_fraction)) / max(n_targets, 1)
        loss = nll
        if classes is not None:
            loss = loss + self._label_loss(classes[rest], pixels, points.nucleus[rest])
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=_MAX_GRADIENT_NORM)
        self.optimizer.step()

        with torch.no_grad():
            self._gather(candidate, gene, by_cell / rate[:, None], noise / rate, log_weight[rest], n_targets, area * target_fraction)
            self._gather_exposure(window, target_fraction)
            self._update_dynamic(pixels, points[rest], log_weight[rest])
            self._update_average()
        self.step += 1
        return {"loss": float(nll.detach()), "assigned": float(1 - (noise / rate).detach().mean()) if n_targets else float("nan")}

    def end_round(self) -> None:
        """Re-estimate the cells from the evidence of the round and start the next one."""
        self.state = revise(self.state, self.evidence, self.parameters)
        self.evidence = Evidence.empty(self.state)

    def averaged_model(self) -> CompetitionModel:
        """The model with the mean weights, frozen; what predicts. Training ends here."""
        model: CompetitionModel = self.model.module
        model.load_state_dict(self.average)
        return model.requires_grad_(False)

    def record(self, records: list[dict[str, float]]) -> dict[str, Any]:
        """Summary of a round for the history."""
        return {
            "epoch": self.step // self.parameters.steps_per_round,
            "step": self.step,
            "loss": float(np.nanmean([r["loss"] for r in records])),
            "fraction_assigned": float(np.nanmean([r["assigned"] for r in records])),
            "known_pixels": float((self.dynamic != UNKNOWN).mean()),
            "noise_rate": float(self.model.module.noise_rate.detach()),
            "log_cytoplasm": float(self.model.module.log_cytoplasm.detach()),
        }

    def _update_average(self) -> None:
        share = 1 / min(self.step + 1, _AVERAGING_STEPS)
        for name, value in self.model.module.state_dict().items():
            self.average[name].lerp_(value.detach(), share)

    def _label_loss(self, classes: Tensor, pixels: NDArray[np.int64], nucleus: NDArray[np.int32]) -> Tensor:
        """Cross entropy on nuclei (fixed) and on pixels whose dynamic label is known."""
        label = self.dynamic[pixels[:, 0], pixels[:, 1]]
        weight = np.where(nucleus > 0, self.parameters.nucleus_weight, np.where(label != UNKNOWN, self.parameters.pseudo_weight, 0.0))
        label_t = torch.as_tensor(label, dtype=torch.long, device=classes.device)
        posterior = self.state.posterior[(label_t - 1).clamp(min=0)]
        is_cell = (label_t > 0)[:, None]
        log_likelihood = torch.where(is_cell, posterior * classes[:, 1:], 0.0).sum(1) + torch.where(is_cell[:, 0], 0.0, classes[:, 0])
        weight_t = torch.as_tensor(weight, dtype=torch.float32, device=classes.device)
        known = [(nucleus > 0), (nucleus == 0) & (label != UNKNOWN)]
        loss = classes.new_zeros(())
        for group in known:
            mask = torch.as_tensor(group, device=classes.device)
            loss = loss - (log_likelihood * weight_t * mask).sum() / max(int(group.sum()), 1)
        return loss

    def _gather(
        self, candidate: Tensor, gene: Tensor, weight: Tensor, noise: Tensor, log_weight: Tensor, n_targets: int, area: float
    ) -> None:
        self.evidence.add_molecules(self.state, candidate[:n_targets], gene, weight, noise)
        share = log_weight[:, :-1].exp() * (area / max(len(log_weight), 1))
        self.evidence.area.index_add_(0, candidate[n_targets:].reshape(-1), share.reshape(-1))

    def _gather_exposure(self, window: Window, fraction: float) -> None:
        centre = self.tissue.nuclei.centre_px
        inside = np.flatnonzero(_inside(centre, window))
        self.evidence.exposure[torch.as_tensor(inside, device=self.evidence.exposure.device)] += fraction

    def _update_dynamic(self, pixels: NDArray[np.int64], points: Points, log_weight: Tensor) -> None:
        best, slot = log_weight.max(1)
        winner = points.winner(slot.cpu().numpy())
        label = np.where(best.exp().cpu().numpy() > self.parameters.pseudo_confidence, winner, UNKNOWN)
        code = self.state.posterior.argmax(1).cpu().numpy()
        of_cell = label > 0
        label[of_cell] = np.where(self.gate.passes(pixels[of_cell], code[label[of_cell] - 1]), label[of_cell], UNKNOWN)
        free = points.nucleus == 0
        self.dynamic[pixels[free, 0], pixels[free, 1]] = label[free]

    def _set_learning_rate(self) -> None:
        progress = self.step / max(self.n_steps, 1)
        factor = 0.5 * (1 + math.cos(math.pi * progress)) + 0.02
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]

    def _draw_window(self) -> Window:
        side = self.parameters.patch_size_px
        height, width = self.tissue.shape
        y0, x0 = self.starts[int(self.rng.integers(len(self.starts)))]
        jitter_y, jitter_x = self.rng.integers(-side // 2, side // 2 + 1, 2)
        h, w = min(side, height), min(side, width)
        return Window(int(np.clip(y0 + jitter_y, 0, height - h)), int(np.clip(x0 + jitter_x, 0, width - w)), h, w)

    def _draw_pixels(self, window: Window) -> NDArray[np.int64]:
        n = min(self.parameters.points_per_patch, window.height * window.width)
        flat = self.rng.integers(0, window.height * window.width, n)
        return np.stack([flat // window.width + window.y0, flat % window.width + window.x0], 1)


def _patch_starts(tissue: Tissue, parameters: Parameters) -> NDArray[np.int64]:
    """Corners of a regular grid of patches that hold nuclei."""
    side = parameters.patch_size_px
    height, width = tissue.shape
    cell = (tissue.nuclei.centre_px // side).astype(np.int64)
    corners = np.unique(cell, axis=0) * side
    return np.minimum(corners, np.maximum(np.array([height - side, width - side]), 0))


def _inside(yx: NDArray, window: Window) -> NDArray[np.bool_]:
    y, x = yx[:, 0] - window.y0, yx[:, 1] - window.x0
    return (y >= 0) & (y < window.height) & (x >= 0) & (x < window.width)
