"""The whole method on arrays: train, predict, clean, score genes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sjg.core import (
    CellTypes,
    InputError,
    Molecules,
    Segmentation,
    Spread,
    flush,
    generator,
    parts,
    release,
    scratch_zeros,
    values_at,
)
from sjg.labels import fill_holes, keep_connected, smooth_outlines
from sjg.training._calibration import calibrated
from sjg.training._checkpoint import TRAINING, Checkpoints, fingerprint, no_checkpoint
from sjg.training._importance import gene_importance
from sjg.training._judges import ClaimJudge, FoldJudge, Judge
from sjg.training._model import NOISE_FRACTION, CompetitionModel
from sjg.training._network_store import store_model
from sjg.training._own_profiles import OwnProfiles, fit_own_profiles
from sjg.training._parameters import Parameters
from sjg.training._plan import Plan, plan_together
from sjg.training._predict import RELEASE_TILES, Prediction, predict
from sjg.training._snapshot import digest, evidence_tensors, restore, snapshot
from sjg.training._state import CellState, Evidence, initial_state, revise
from sjg.training._tissue import Tissue
from sjg.training._trainer import Trainer
from sjg.training._windows import Window, tiles
from sjg.training._workers import starmap_in_threads

_MAX_NOISE_OUTSIDE = 0.5
_PHASES = ("types", "cells")

OnProgress = Callable[[dict[str, Any]], None]


def segment_tissue(
    molecules: Molecules,
    nuclei_labels: NDArray[np.int32],
    types: CellTypes,
    parameters: Parameters,
    *,
    fabric: Fabric,
    random_state: int = 0,
    checkpoint_dir: Path | None = None,
    checkpoint_interval: int = 50,
    resume: bool = False,
    restrict_to_mask: bool = False,
    on_progress: OnProgress | None = None,
    spread: Spread | None = None,
) -> Segmentation:
    """Segment a tissue.

    Parameters
    ----------
    molecules
        N transcripts in grid pixels.
    nuclei_labels
        (H, W) int32, ids 1..n without gaps.
    types
        Start types of the n nuclei.
    parameters
        Settings, see :data:`sjg.training.PRESETS`.
    fabric
        Device and processes, launched.
    random_state
        Seed of everything random.
    checkpoint_dir
        Folder for checkpoints; None writes none.
    checkpoint_interval
        Steps of training, and tiles of prediction, between two checkpoints: what an interruption costs at most.
    resume
        Continue from the checkpoint there.
    restrict_to_mask
        A molecule belongs to its posterior cell only if it lies inside that cell's mask.
    on_progress
        Called with plain records: ``phase``, ``done``, ``total`` and, while training, ``epoch``, ``loss``, ``fraction_assigned``.
    spread
        Calls a function for many pieces of work, as :func:`itertools.starmap` would, by the workers of a cluster: for the passes over the tissue,
        where this process computes on a CPU and by claims, and for cleaning their result; None = by threads.

    Returns
    -------
    Segmentation
        In grid pixels.

    Raises
    ------
    CheckpointError
        A checkpoint cannot be written, is missing where `resume` is asked for, is damaged or belongs to another run.
    SystemExit
        SIGTERM has come; a checkpoint was written first.
    """
    report = on_progress or (lambda record: None)
    run = "" if checkpoint_dir is None else fingerprint(molecules, nuclei_labels, types, parameters, random_state)
    given = parameters
    if parameters.use_claims and types.profiles is not None:
        # Molecules that cells lost to their neighbours would blur the profiles of a reference.
        parameters = parameters.replace(revise_profiles=False)
    tissue = Tissue(molecules, nuclei_labels, parameters)
    if parameters.calibrate_reference:
        types = calibrated(types, tissue)
    plan = plan_together(parameters, n_types=len(types.names), crowd=tissue.crowd(), fabric=fabric)
    parameters = parameters.replace(precision=plan.precision)
    trainer = make_trainer(tissue, types, parameters, fabric, random_state)
    trainer.patch_px, trainer.n_workers = plan.patch_px, plan.n_workers
    checkpoints = Checkpoints(checkpoint_dir, run, every=checkpoint_interval, fabric=fabric)
    with checkpoints.interruptible():
        history = _take_up(trainer, checkpoints, resume=resume)
        with closing(trainer):
            _train(trainer, history, checkpoints, report)
        model = trainer.averaged_model()
        passes = _Passes(model, tissue, parameters, fabric, random_state, checkpoints, report, plan, spread)
        settle = passes.run("types", trainer.state, pixels=False, own=trainer.own)
        state = revise(trainer.state, settle.evidence, parameters)
        if parameters.use_claims and parameters.false_calls:
            state = state.with_false_calls(settle.evidence)
        own = None
        if parameters.own_profiles:
            own = fit_own_profiles(state, settle.cell, tissue.molecules.gene, rng=generator(random_state, 5))
        final = passes.run("cells", state, own=own)
    labels = clean(final, tissue, spread=spread or partial(starmap_in_threads, n_workers=plan.n_workers))
    cell, confidence = _restrict(final, labels, tissue) if restrict_to_mask else (final.cell, final.cell_confidence)
    report({"phase": "genes", "done": 0, "total": 1})
    importance = np.full((len(molecules.gene_names), len(types.names)), np.nan, np.float32)
    if model.network is not None:
        model.network.compute_dtype = torch.float32
        importance = gene_importance(model, tissue, state, parameters, rng=generator(random_state, 4))
    report({"phase": "genes", "done": 1, "total": 1})
    best, code = state.posterior.max(1)
    return Segmentation(
        labels=labels,
        molecule_cell=tissue.as_given(cell),
        molecule_confidence=tissue.as_given(confidence),
        cell_type=code.cpu().numpy().astype(np.int32),
        cell_type_confidence=best.cpu().numpy().astype(np.float32),
        type_names=types.names,
        gene_importance=importance,
        history=history,
        network=store_model(model, state, given),
        parameters={**given.to_dict(), "random_state": random_state},
        pixel_confidence=final.confidence,
    )


def clean(prediction: Prediction, tissue: Tissue, *, tile_px: int = 1024, spread: Spread = starmap) -> NDArray[np.int32]:
    """Smooth outlines, give up pieces apart from their nucleus, fill holes; nuclei stay as they are.

    A cell ends at its reach, so a tile with a margin as wide as the largest cell decides its pixels as the whole tissue would.
    """
    if prediction.labels is None:
        raise InputError("This prediction has no pixels; predict with pixels=True.")
    # A piece is tied to its nucleus, and a hole to its border, within the extent of one cell; votes look two pixels further.
    margin = 2 * int(np.ceil(2 * (tissue.reach_px + float(tissue.nuclei.outline_px.max())))) + 4
    out = scratch_zeros(tissue.shape, np.int32)
    windows = list(tiles(tissue.shape, tile_px))
    halos = [window.grown(margin).within(tissue.shape) for window in windows]
    inner = [Window(w.y0 - h.y0, w.x0 - h.x0, w.height, w.width) for w, h in zip(windows, halos, strict=True)]
    labels = prediction.labels
    jobs = ((h.of(tissue.labels).copy(), h.of(labels).copy(), core) for h, core in zip(halos, inner, strict=True))
    for window, found in zip(windows, spread(_cleaned, jobs), strict=True):
        window.of(out)[:] = found
        release(out, tissue.labels, labels)
    return out


def _cleaned(nuclei: NDArray[np.int32], predicted: NDArray[np.int32], inner: Window) -> NDArray[np.int32]:
    """Clean labels of the inner part of a window."""
    labels = fill_holes(keep_connected(np.where(nuclei > 0, nuclei, smooth_outlines(predicted)), nuclei))
    return inner.of(np.where(nuclei > 0, nuclei, labels)).astype(np.int32)


def make_trainer(tissue: Tissue, types: CellTypes, parameters: Parameters, fabric: Fabric, random_state: int) -> Trainer:
    """A trainer before its first step."""
    state = initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, types, parameters, device=fabric.device)
    # Only the draw of initial weights reads torch's global generator; it is put back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(random_state, 0).integers(2**31)))
        model = CompetitionModel(
            len(tissue.molecules.gene_names),
            len(types.names),
            parameters,
            radius_px=tissue.radius_px,
            density=tissue.density,
            # Most of what lies outside nuclei belongs to cells.
            noise_rate=min(NOISE_FRACTION * tissue.density, _MAX_NOISE_OUTSIDE * tissue.density_outside),
            log_profiles=state.log_profiles.T.cpu(),
        )
    return Trainer(tissue, state, model, parameters, fabric=fabric, random_state=random_state)


def _take_up(trainer: Trainer, checkpoints: Checkpoints, *, resume: bool) -> list[dict[str, Any]]:
    """The history so far, after putting the trainer where the last checkpoint left it."""
    if not resume:
        checkpoints.clear()
        return []
    content = checkpoints.load(TRAINING)
    if content is None:
        raise no_checkpoint(checkpoints.directory)
    return restore(trainer, content)


def _train(trainer: Trainer, history: list[dict[str, Any]], checkpoints: Checkpoints, report: OnProgress) -> None:
    while not trainer.finished:
        record = trainer.train_step()
        report(
            {
                "phase": "training",
                "done": trainer.step,
                "total": trainer.n_steps,
                "epoch": len(history) + 1,
                "loss": record["loss"],
                "fraction_assigned": record["assigned"],
            }
        )
        round_ends = trainer.round_is_over
        if round_ends:
            history.append(trainer.end_round())
        checkpoints.after(trainer.step, lambda: snapshot(trainer, history), TRAINING, last=round_ends)


@dataclass(frozen=True)
class _Passes:
    """Passes over the tissue with the trained model, each of which goes on where it was left."""

    model: CompetitionModel
    tissue: Tissue
    parameters: Parameters
    fabric: Fabric
    random_state: int
    checkpoints: Checkpoints
    report: OnProgress
    plan: Plan
    spread: Spread | None = None

    def run(self, phase: str, state: CellState, *, pixels: bool = True, own: OwnProfiles | None = None) -> Prediction:
        """One pass; the same in all processes."""
        checkpoints, name = self.checkpoints, f"tiles-{phase}"
        made_with = digest(*self.model.state_dict().values(), state.density, state.posterior, state.ambient)
        before = checkpoints.load(name, own=True)
        valid = before is not None and before["made_with"] == made_with and before["processes"] == self.fabric.world_size

        def array(field: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
            return checkpoints.array(f"{phase}-{field}", shape, dtype)

        tile_px = int(before["tile_px"]) if before is not None and valid else self.plan.tile_px
        prediction = Prediction.empty(self.tissue, state, pixels=pixels, array=array)
        if before is not None and valid:
            prediction.n_done = int(before["n_done"])
            prediction.evidence = Evidence(**before["evidence"])
        else:
            prediction.clear()

        def content() -> dict[str, Any]:
            flush(*prediction.arrays())
            return {
                "made_with": made_with,
                "processes": self.fabric.world_size,
                "tile_px": tile_px,
                "n_done": prediction.n_done,
                "evidence": evidence_tensors(prediction.evidence),
            }

        def on_tile(done: int, total: int) -> None:
            self.report({"phase": phase, "done": done, "total": total})
            if own is not None and done % RELEASE_TILES == 0:
                own.release()
            checkpoints.after(done, content, name, last=done == total, own=True)

        seed = int(generator(self.random_state, 2, _PHASES.index(phase)).integers(2**63))
        judge: Judge
        spread = None
        if self.parameters.use_claims:
            judge = ClaimJudge(self.tissue, state, self.parameters, own=own)
            # a GPU judges faster than the processors of a cluster, and the network of this tissue is not sent about with every tile
            spread = self.spread if self.fabric.device.type == "cpu" else None
        else:
            judge = FoldJudge(self.model, self.tissue, state, self.parameters, own=own, seed=seed)
        return predict(
            judge,
            self.tissue,
            self.parameters,
            into=prediction,
            tile_px=tile_px,
            seed=seed,
            fabric=self.fabric,
            n_workers=self.plan.n_workers,
            spread=spread,
            on_tile=on_tile,
        )


def _restrict(prediction: Prediction, labels: NDArray[np.int32], tissue: Tissue) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Cell and confidence of the molecules that lie in the mask of their cell, 0 for the others."""
    cell, confidence = (scratch_zeros(a.shape, a.dtype) for a in (prediction.cell, prediction.cell_confidence))
    mask = values_at(labels, tissue.molecules.yx_px)
    for rows in parts(len(cell)):
        inside = mask[rows] == prediction.cell[rows]
        cell[rows] = np.where(inside, prediction.cell[rows], 0)
        confidence[rows] = np.where(inside, prediction.cell_confidence[rows], 0)
    return cell, confidence
