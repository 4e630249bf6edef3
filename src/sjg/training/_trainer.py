"""Self-training on molecules that the network has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from sjg.core import generator
from sjg.training._dynamic import UNKNOWN, DynamicLabels
from sjg.training._fabric import gather, reduce_gradients, share_of, sum_over_ranks
from sjg.training._gate import AttributionGate
from sjg.training._judges import ClaimJudge
from sjg.training._likelihood import expected_count, molecule_rates
from sjg.training._model import Batch, CompetitionModel
from sjg.training._own_profiles import OwnProfiles, fit_own_profiles
from sjg.training._parameters import Parameters
from sjg.training._patches import Patches, PatchesAhead, Stream
from sjg.training._plan import is_out_of_memory, smaller
from sjg.training._settling import WINDOW, has_settled, mean_of_numbers
from sjg.training._state import CellState, Evidence, revise
from sjg.training._tissue import Points, Tissue
from sjg.training._windows import Window

_MAX_GRADIENT_NORM = 5.0
#: memory of the running mean of the weights, in steps
_AVERAGING_STEPS = 50
#: steps after which the memory of memory-mapped arrays is given back
_RELEASE_STEPS = 25


@dataclass(frozen=True)
class _Outcome:
    """What a patch leaves: loss, fraction assigned, flat index and label of its pixels outside nuclei."""

    loss: float
    assigned: float
    pixel: NDArray[np.int64]
    label: NDArray[np.int32]


class Trainer:
    """Alternates steps of gradient descent with re-estimation of the cells.

    The state of a run is `model`, `optimizer`, `average`, `state`, `evidence`, `dynamic`, `gate`, `records`, `last_loss`, `patch_px`, `step`, `n_rounds_done` and `stopped`; nothing else changes.
    What is random in a step comes from the seed, the number of the step and that of the patch alone, so that neither an interruption nor
    the number of processes changes it. With several processes each takes its share of the patches of a step; weights, cells and
    labels are the same in all of them after each step, `evidence` is added up at the end of a round.

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
        Device, precision and processes.
    random_state
        Seed of the order of patches and the splits of molecules.
    """

    def __init__(
        self, tissue: Tissue, state: CellState, model: CompetitionModel, parameters: Parameters, *, fabric: Fabric, random_state: int
    ) -> None:
        self.tissue, self.state, self.parameters, self.fabric, self.random_state = tissue, state, parameters, fabric, random_state
        optimizer = torch.optim.Adam(model.parameter_groups(parameters.learning_rate), parameters.learning_rate)
        self.model, self.optimizer = fabric.setup(model, optimizer)
        #: running mean of the weights, which predicts better than the last step on tissue this small
        self.average = {name: value.detach().clone() for name, value in self.model.module.state_dict().items()}
        self.evidence = Evidence.empty(state)
        self.dynamic = DynamicLabels(tissue.labels)
        #: (loss, fraction assigned) of the steps of this round
        self.records: list[tuple[float, float]] = []
        #: filled anew at the start of a round
        self.gate = AttributionGate(parameters)
        #: expression of single cells by the molecules in their nuclei
        self.own: OwnProfiles | None = None
        if parameters.use_claims and parameters.own_profiles:
            self.own = fit_own_profiles(state, tissue.nucleus_of, tissue.molecules.gene, rng=generator(random_state, 8))
        self._judge: ClaimJudge | None = None
        #: threads that judge patches; the result does not depend on their number
        self.n_workers = 1
        #: mean loss of the round before
        self.last_loss = float("nan")
        #: side of a patch, which shrinks where memory runs out
        self.patch_px = parameters.patch_size_px
        self.step = 0
        self.n_rounds_done = 0
        #: whether training has converged before its last step
        self.stopped = False
        self.patches = Patches(tissue, parameters)
        share = share_of(fabric, parameters.patches_per_step)
        self._ahead = PatchesAhead(self.patches, random_state, share=share)

    @property
    def n_steps(self) -> int:
        """Steps of the whole run if no further round ends early."""
        return self._round_end + (self.parameters.n_rounds - self.n_rounds_done - 1) * self.parameters.steps_per_round

    @property
    def _round_end(self) -> int:
        """The step with which this round ends at the latest."""
        return self.step - len(self.records) + self.parameters.steps_per_round

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.stopped or self.n_rounds_done >= self.parameters.n_rounds

    @property
    def round_is_over(self) -> bool:
        """Whether it is time for :meth:`end_round`: all steps of the round are done, or its loss has settled (asked after whole windows)."""
        # Only with claims: the held-out likelihood goes on falling by little that counts.
        asked = self.parameters.use_claims and len(self.records) % WINDOW == 0
        return self.step >= self._round_end or (asked and self._loss_has_settled())

    def _loss_has_settled(self) -> bool:
        losses = [loss for loss, _ in self.records]
        if self.parameters.use_claims:
            # The labels change between rounds, and with them the loss; it is compared inside the round.
            return has_settled(losses, self.parameters.settled_loss, window=WINDOW)
        return has_settled([self.last_loss, mean_of_numbers(losses)], self.parameters.settled_loss, window=1)

    def train_step(self) -> dict[str, float]:
        """Some patches; returns the loss (per held-out molecule, or of the labels) and the fraction of the molecules given to cells."""
        self._set_learning_rate()
        if not self.records:
            rng = generator(self.random_state, 7, self.step)
            self.gate.refresh(self.model.module, self.tissue, self.state, epoch=self.n_rounds_done, rng=rng)
        self.optimizer.zero_grad()
        n_patches = self.parameters.patches_per_step
        # Gradients of several processes are added by reduce_gradients, after the last patch.
        with self.fabric.no_backward_sync(self.model, enabled=self.fabric.world_size > 1):
            outcomes = [self._fitting_patch((1, self.step, patch), weight=1 / n_patches) for patch in share_of(self.fabric, n_patches)]
        reduce_gradients(self.fabric, self.model)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=_MAX_GRADIENT_NORM)
        self.optimizer.step()
        # Labels change between steps only, in the order of the patches, so that it does not matter which process had which.
        outcomes = gather(self.fabric, outcomes)
        for outcome in outcomes:
            self.dynamic.write(outcome.pixel, outcome.label)
        self._update_average()
        self.step += 1
        if self.step % _RELEASE_STEPS == 0:
            self.dynamic.release()
            self.tissue.release()
        self.records.append((mean_of_numbers([o.loss for o in outcomes]), mean_of_numbers([o.assigned for o in outcomes])))
        return {"loss": self.records[-1][0], "assigned": self.records[-1][1]}

    @property
    def judge(self) -> ClaimJudge:
        """Judge by claims with the current estimates of the cells."""
        if self._judge is None or self._judge.state is not self.state:
            self._judge = ClaimJudge(self.tissue, self.state, self.parameters.replace(n_orientations=1), own=self.own)
        return self._judge

    def _fitting_patch(self, stream: Stream, *, weight: float) -> _Outcome:
        """One patch, and smaller patches from now on where memory runs out."""
        while True:
            before = [None if p.grad is None else p.grad.clone() for p in self.model.parameters()]
            try:
                return self._patch(stream, weight=weight)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self.patch_px = smaller(self.patch_px, error, "patch", self.fabric.device)
            for parameter, gradient in zip(self.model.parameters(), before, strict=True):
                parameter.grad = gradient

    def _patch(self, stream: Stream, *, weight: float) -> _Outcome:
        """Add the gradient of one patch, and gather its evidence."""
        if self.parameters.use_claims:
            return self._patch_with_claims(stream, weight=weight)
        return self._patch_held_out(generator(self.random_state, *stream), weight=weight)

    def _patch_with_claims(self, stream: Stream, *, weight: float) -> _Outcome:
        """Claims say whose molecules and pixels are; the network learns the types of nuclei and of pixels that are clear."""
        tissue, state = self.tissue, self.state
        patch = self._ahead.take(stream, self.patch_px, self.judge, until_step=self._round_end, n_workers=self.n_workers)
        rng, window, inside, pixels = patch.rng, patch.window, patch.inside, patch.pixels
        molecules, points, source, place = patch.molecules, patch.points, patch.source, patch.place
        flat = pixels[:, 0] * tissue.shape[1] + pixels[:, 1]
        loss = torch.zeros(())
        if self.model.module.network is not None:
            batch = tissue.batch(patch.halo, patch.context, patch.near, 1.0, points, state)
            _, classes = self.model(self._oriented(batch, rng), state.log_profiles, state.log_prior)
            loss = self._label_loss(classes, flat, points.nucleus)
            self.fabric.backward(loss * weight)
        gene = torch.as_tensor(tissue.molecules.gene[inside], dtype=torch.long, device=source.device)
        cells = [torch.as_tensor(p.candidate, device=source.device) for p in (molecules, points)]
        self.evidence.add_molecules(state, cells[0], gene, source[:, :-1], source[:, -1])
        self._gather_area(cells[1], place[:, :-1], float(window.height * window.width))
        self._gather_exposure(window, 1.0)
        label = self._confident(pixels, points, place.log())
        free = points.nucleus == 0
        assigned = float(1 - source[:, -1].mean()) if len(inside) else float("nan")
        return _Outcome(float(loss.detach()), assigned, flat[free], label[free])

    def close(self) -> None:
        """Let go of what was made ahead, and of the memory of mapped arrays."""
        self.dynamic.release()
        self._ahead.close()

    def _oriented(self, batch: Batch, rng: np.random.Generator) -> Batch:
        if not self.parameters.augment:
            return batch
        flip_y, flip_x, transpose = (bool(b) for b in rng.integers(0, 2, 3))
        return batch.oriented(flip_y=flip_y, flip_x=flip_x, transpose=transpose)

    def _patch_held_out(self, rng: np.random.Generator, *, weight: float) -> _Outcome:
        """The competition learns to predict molecules that it has not seen."""
        parameters, tissue, state = self.parameters, self.tissue, self.state
        window = self.patches.window(rng, self.patch_px)
        halo = window.grown(parameters.halo_px)
        fraction = float(rng.uniform(*parameters.input_fraction))
        near = tissue.molecules_in(halo)
        shown = rng.random(len(near)) < fraction
        target = near[~shown] if parameters.held_out else near
        target_fraction = 1 - fraction if parameters.held_out else 1.0
        yx = tissue.molecules.yx_px[target]
        target = target[window.holds(yx)]
        n_targets = len(target)
        pixels = self.patches.pixels(window, rng, self.patch_px)
        points = tissue.points(np.concatenate([tissue.molecules.yx_px[target], pixels + 0.5]), halo)
        inputs = near[shown] if parameters.held_out else near
        batch = tissue.batch(halo, tissue.context(halo), inputs, fraction if parameters.held_out else 1.0, points, state)
        log_weight, classes = self.model(self._oriented(batch, rng), state.log_profiles, state.log_prior)

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
        flat = pixels[:, 0] * tissue.shape[1] + pixels[:, 1]
        if classes is not None:
            loss = loss + self._label_loss(classes[rest], flat, points.nucleus[rest])
        self.fabric.backward(loss * weight)

        with torch.no_grad():
            self.evidence.add_molecules(state, candidate[:n_targets], gene, by_cell / rate[:, None], noise / rate)
            self._gather_area(candidate[n_targets:], log_weight[rest, :-1].exp(), area * target_fraction)
            self._gather_exposure(window, target_fraction)
            label = self._confident(pixels, points[rest], log_weight[rest])
        free = points.nucleus[rest] == 0
        assigned = float(1 - (noise / rate).detach().mean()) if n_targets else float("nan")
        return _Outcome(float(nll.detach()), assigned, flat[free], label[free])

    def end_round(self) -> dict[str, Any]:
        """Re-estimate the cells from the evidence of the round and start the next one; returns its summary."""
        # what was made ahead ends with the round, because the state of the cells does
        self.close()
        before, evidence = self.state.posterior.argmax(1), self.total_evidence()
        self.state = revise(self.state, evidence, self.parameters)
        # cells that no patch has met could not change: on large tissue most
        changes = (self.state.posterior.argmax(1) != before)[evidence.exposure > 0].float()
        changed = float(changes.mean()) if len(changes) else 0.0
        loss = mean_of_numbers([loss for loss, _ in self.records])
        self.stopped = changed < self.parameters.settled_cells and self._loss_has_settled()
        self.n_rounds_done += 1
        self.last_loss = loss
        self.evidence = Evidence.empty(self.state)
        summary = {
            "epoch": self.n_rounds_done,
            "step": self.step,
            "loss": loss,
            "changed_types": changed,
            "fraction_assigned": mean_of_numbers([assigned for _, assigned in self.records]),
            "known_pixels": self.dynamic.known_fraction,
        }
        if not self.parameters.use_claims:
            summary["noise_rate"] = float(self.model.module.noise_rate.detach())
            summary["log_cytoplasm"] = float(self.model.module.log_cytoplasm.detach())
        self.records = []
        return summary

    def total_evidence(self) -> Evidence:
        """The evidence of this round from all processes."""
        total = Evidence(**{name: getattr(self.evidence, name).clone() for name in self.evidence.__dataclass_fields__})
        sum_over_ranks(self.fabric, total)
        return total

    def averaged_model(self) -> CompetitionModel:
        """The model with the mean weights, frozen; what predicts. Training ends here."""
        model: CompetitionModel = self.model.module
        model.load_state_dict(self.average)
        return model.requires_grad_(False)

    def _update_average(self) -> None:
        share = 1 / min(self.step + 1, _AVERAGING_STEPS)
        for name, value in self.model.module.state_dict().items():
            self.average[name].lerp_(value.detach(), share)

    def _label_loss(self, classes: Tensor, flat: NDArray[np.int64], nucleus: NDArray[np.int32]) -> Tensor:
        """Cross entropy on nuclei (fixed) and on pixels whose dynamic label is known."""
        label = self.dynamic.read(flat)
        weight = np.where(nucleus > 0, self.parameters.nucleus_weight, np.where(label != UNKNOWN, self.parameters.pseudo_weight, 0.0))
        label_t = torch.as_tensor(label, dtype=torch.long, device=classes.device)
        posterior = self.state.posterior[(label_t - 1).clamp(min=0)]
        is_cell = (label_t > 0)[:, None]
        log_likelihood = torch.where(is_cell, posterior * classes[:, 1:], 0.0).sum(1) + torch.where(is_cell[:, 0], 0.0, classes[:, 0])
        weight_t = torch.as_tensor(weight, dtype=torch.float32, device=classes.device)
        loss = classes.new_zeros(())
        for group in (nucleus > 0, (nucleus == 0) & (label != UNKNOWN)):
            mask = torch.as_tensor(group, device=classes.device)
            loss = loss - (log_likelihood * weight_t * mask).sum() / max(int(group.sum()), 1)
        return loss

    def _gather_area(self, candidate: Tensor, weight: Tensor, area: float) -> None:
        share = weight * (area / max(len(weight), 1))
        self.evidence.area.index_add_(0, candidate.reshape(-1), share.reshape(-1))

    def _gather_exposure(self, window: Window, fraction: float) -> None:
        inside = np.flatnonzero(window.holds(self.tissue.nuclei.centre_px))
        self.evidence.exposure[torch.as_tensor(inside, device=self.evidence.exposure.device)] += fraction

    def _confident(self, pixels: NDArray[np.int64], points: Points, log_weight: Tensor) -> NDArray[np.int32]:
        """Winner at each point where it is clear and the gate lets it pass, else unknown."""
        best, slot = log_weight.max(1)
        winner = points.winner(slot.cpu().numpy())
        label = np.where(best.exp().cpu().numpy() > self.parameters.pseudo_confidence, winner, UNKNOWN).astype(np.int32)
        of_cell = (label > 0) & (points.nucleus == 0)
        cell = torch.as_tensor(label[of_cell] - 1, dtype=torch.long, device=log_weight.device)
        types = self.state.posterior[cell].argmax(1).cpu().numpy()
        label[of_cell] = np.where(self.gate.passes(pixels[of_cell], types), label[of_cell], UNKNOWN)
        return label

    def _set_learning_rate(self) -> None:
        # rounds that ended early count as whole ones, so that the rate falls to its end where training ends
        steps = self.parameters.steps_per_round
        progress = (self.n_rounds_done * steps + len(self.records)) / (self.parameters.n_rounds * steps)
        factor = 0.5 * (1 + math.cos(math.pi * progress)) + 0.02
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]
