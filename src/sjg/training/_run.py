"""The whole method on arrays: train, predict, clean, score genes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sjg.core import CellTypes, InputError, Molecules, Segmentation, generator
from sjg.labels import fill_holes, keep_connected, smooth_outlines
from sjg.training._checkpoint import fingerprint, load_checkpoint, save_checkpoint
from sjg.training._importance import gene_importance
from sjg.training._model import NOISE_FRACTION, CompetitionModel
from sjg.training._network_store import store_model
from sjg.training._own_profiles import fit_own_profiles
from sjg.training._parameters import Parameters
from sjg.training._predict import Prediction, predict
from sjg.training._state import initial_state, revise
from sjg.training._tissue import Tissue
from sjg.training._trainer import Trainer

_MAX_NOISE_OUTSIDE = 0.5

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
    resume: bool = False,
    restrict_to_mask: bool = False,
    on_progress: OnProgress | None = None,
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
        Device and precision, launched.
    random_state
        Seed of everything random.
    checkpoint_dir
        Folder for checkpoints, one per round; None writes none.
    resume
        Continue from the checkpoint there.
    restrict_to_mask
        A molecule belongs to its posterior cell only if it lies inside that cell's mask.
    on_progress
        Called with plain records: ``phase``, ``done``, ``total`` and, while training, ``epoch``, ``loss``, ``fraction_assigned``.

    Returns
    -------
    Segmentation
        In grid pixels.

    Raises
    ------
    CheckpointError
        See :func:`load_checkpoint`.
    """
    report = on_progress or (lambda record: None)
    tissue = Tissue(molecules, nuclei_labels, parameters)
    trainer = make_trainer(tissue, types, parameters, fabric, random_state)
    run = "" if checkpoint_dir is None else fingerprint(molecules, nuclei_labels, types, parameters, random_state)
    history: list[dict[str, Any]] = []
    if resume and checkpoint_dir is not None:
        history = load_checkpoint(checkpoint_dir, trainer, run)
    _train(trainer, history, checkpoint_dir, run, report)

    model = trainer.averaged_model()

    def on_tile(phase: str) -> Callable[[int, int], None]:
        return lambda done, total: report({"phase": phase, "done": done, "total": total})

    settle = predict(model, tissue, trainer.state, parameters, rng=generator(random_state, 2), pixels=False, on_tile=on_tile("types"))
    state = revise(trainer.state, settle.evidence, parameters)
    own = fit_own_profiles(state, settle.cell, molecules.gene, rng=generator(random_state, 5)) if parameters.own_profiles else None
    final = predict(model, tissue, state, parameters, rng=generator(random_state, 3), own=own, on_tile=on_tile("cells"))
    labels = clean(final, tissue)
    cell, confidence = _restrict(final, labels, molecules) if restrict_to_mask else (final.cell, final.cell_confidence)
    report({"phase": "genes", "done": 0, "total": 1})
    importance = np.full((len(molecules.gene_names), len(types.names)), np.nan, np.float32)
    if model.network is not None:
        importance = gene_importance(model, tissue, state, parameters, rng=generator(random_state, 4))
    report({"phase": "genes", "done": 1, "total": 1})
    best, code = state.posterior.max(1)
    return Segmentation(
        labels=labels,
        molecule_cell=cell,
        molecule_confidence=confidence,
        cell_type=code.cpu().numpy().astype(np.int32),
        cell_type_confidence=best.cpu().numpy().astype(np.float32),
        type_names=types.names,
        gene_importance=importance,
        history=history,
        network=store_model(model, state, parameters),
        parameters={**parameters.to_dict(), "random_state": random_state},
        pixel_confidence=final.confidence,
    )


def clean(prediction: Prediction, tissue: Tissue) -> NDArray[np.int32]:
    """Smooth outlines, give up pieces apart from their nucleus, fill holes; nuclei stay as they are."""
    if prediction.labels is None:
        raise InputError("This prediction has no pixels; predict with pixels=True.")
    nuclei = tissue.labels
    smooth = smooth_outlines(prediction.labels)
    labels = fill_holes(keep_connected(np.where(nuclei > 0, nuclei, smooth), nuclei))
    return np.where(nuclei > 0, nuclei, labels).astype(np.int32)


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
    return Trainer(tissue, state, model, parameters, fabric=fabric, rng=generator(random_state, 1))


def _train(trainer: Trainer, history: list[dict[str, Any]], checkpoint_dir: Path | None, run: str, report: OnProgress) -> None:
    steps = trainer.parameters.steps_per_round
    while trainer.step < trainer.n_steps:
        records = []
        for _ in range(steps):
            records.append(trainer.train_step())
            report(
                {
                    "phase": "training",
                    "done": trainer.step,
                    "total": trainer.n_steps,
                    "epoch": len(history) + 1,
                    "loss": records[-1]["loss"],
                    "fraction_assigned": records[-1]["assigned"],
                }
            )
        trainer.end_round()
        history.append(trainer.record(records))
        if checkpoint_dir is not None:
            save_checkpoint(checkpoint_dir, trainer, history, run)


def _restrict(prediction: Prediction, labels: NDArray[np.int32], molecules: Molecules) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    pixel = np.floor(molecules.yx_px).astype(np.int64)
    inside = labels[pixel[:, 0], pixel[:, 1]] == prediction.cell
    return np.where(inside, prediction.cell, 0).astype(np.int32), np.where(inside, prediction.cell_confidence, 0).astype(np.float32)
