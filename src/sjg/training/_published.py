"""The published self-training: cross entropy on dynamic labels that grow by the paper's update rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sjg.attribution import type_attribution
from sjg.core import CellTypes, CheckpointError, Molecules, Segmentation, generator
from sjg.labels import PublishedRule, class_of, published_update
from sjg.raster import splat_batch
from sjg.training._importance import gene_importance, patch_inputs
from sjg.training._model import CompetitionModel
from sjg.training._network_store import store_model
from sjg.training._parameters import PublishedParameters
from sjg.training._run import OnProgress, make_trainer
from sjg.training._tissue import Tissue
from sjg.training._trainer import Trainer
from sjg.training._windows import Window, tiles

_ATTRIBUTION_HALO_PX = 32


def segment_published(
    molecules: Molecules,
    nuclei_labels: NDArray[np.int32],
    types: CellTypes,
    parameters: PublishedParameters,
    *,
    fabric: Fabric,
    random_state: int = 0,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    restrict_to_mask: bool = True,
    on_progress: OnProgress | None = None,
) -> Segmentation:
    """Segment a tissue by the rule of the paper :cite:p:`ma2026segjointgene`, on the splat network.

    Unlabelled pixels are background, the network sees transcripts only, types stay as they start, and transcripts belong to the
    cell whose mask holds them. Labels are those of the whole tissue, so no cell is cut at a patch.

    Parameters
    ----------
    molecules, nuclei_labels, types, fabric, random_state, on_progress
        As in :func:`sjg.training.segment_tissue`.
    parameters
        Settings.
    checkpoint_dir, resume
        Not available for this preset.
    restrict_to_mask
        Has no effect: assignment is always by mask.

    Raises
    ------
    CheckpointError
        A `checkpoint_dir` was given.
    """
    if checkpoint_dir is not None or resume:
        raise CheckpointError("preset='published' writes no checkpoints yet; drop checkpoint_dir and resume, or use preset='default'.")
    report = on_progress or (lambda record: None)
    tissue = Tissue(molecules, nuclei_labels, parameters)
    trainer = make_trainer(tissue, types, parameters, fabric, random_state)
    rng = generator(random_state, 1)
    model: CompetitionModel = trainer.model.module
    code = np.where(types.initial >= 0, types.initial, 0)
    instance_type = np.concatenate([[0], code + 1]).astype(np.int64)
    labels = tissue.labels.copy()
    history = []
    for epoch in range(parameters.n_rounds):
        _set_learning_rate(trainer, parameters.learning_rate)
        losses = _train_epoch(trainer, labels, instance_type, parameters, rng)
        if epoch > 0:
            since = epoch - parameters.attribution_epoch
            gated = parameters.attribution_gate != "none" and since >= 0 and since % parameters.attribution_interval == 0
            labels = _update_labels(model, tissue, trainer, labels, instance_type, parameters, gated=gated, rng=rng)
        assigned = float((_cell_of(tissue.molecules, labels) > 0).mean())
        history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "fraction_assigned": assigned})
        report({"phase": "training", "done": epoch + 1, "total": parameters.n_rounds, **history[-1]})
    model.requires_grad_(False)
    cell = _cell_of(tissue.molecules, labels)
    confidence = _confidence(model, tissue, trainer, cell, instance_type, parameters)
    report({"phase": "genes", "done": 0, "total": 1})
    importance = gene_importance(model, tissue, trainer.state, parameters, rng=generator(random_state, 4))
    return Segmentation(
        labels=labels.astype(np.int32),
        molecule_cell=tissue.as_given(cell),
        molecule_confidence=tissue.as_given(confidence),
        cell_type=code.astype(np.int32),
        cell_type_confidence=np.asarray(types.confidence, np.float32),
        type_names=types.names,
        gene_importance=importance,
        history=history,
        network=store_model(model, trainer.state, parameters),
        parameters={**parameters.to_dict(), "random_state": random_state},
    )


def _train_epoch(
    trainer: Trainer,
    labels: NDArray[np.int32],
    instance_type: NDArray[np.int64],
    parameters: PublishedParameters,
    rng: np.random.Generator,
) -> list[float]:
    """Every patch once, in random order; returns the losses."""
    tissue, model = trainer.tissue, trainer.model.module
    side = min(parameters.patch_size_px, *tissue.shape)
    starts = [Window(min(w.y0, tissue.shape[0] - side), min(w.x0, tissue.shape[1] - side), side, side) for w in tiles(tissue.shape, side)]
    order = rng.permutation(len(starts))
    device = trainer.fabric.device
    losses = []
    for first in range(0, len(order), parameters.batch_size):
        windows = [starts[i] for i in order[first : first + parameters.batch_size]]
        found = [tissue.molecules_in(w) for w in windows]
        coords = np.concatenate(
            [tissue.molecules.yx_px[f] - np.array([w.y0, w.x0], np.float32) for f, w in zip(found, windows, strict=True)]
        )
        gene = np.concatenate([tissue.molecules.gene[f] for f in found])
        patch = np.repeat(np.arange(len(windows)), [len(f) for f in found])
        maps = splat_batch(
            torch.as_tensor(coords, device=device),
            torch.as_tensor(gene, dtype=torch.long, device=device),
            torch.as_tensor(patch, device=device),
            model.network.gene_embedding(),
            batch_size=len(windows),
            shape=(side, side),
            sigma_px=model.raster_sigma_px,
        )
        context = torch.as_tensor(np.stack([tissue.context(w) for w in windows]), device=device)
        target = torch.as_tensor(np.stack([class_of(w.cut(labels), instance_type) for w in windows]), dtype=torch.long, device=device)
        logits, _ = model.network(maps / model.density, context)
        loss = torch.nn.functional.cross_entropy(logits, target)
        trainer.optimizer.zero_grad()
        trainer.fabric.backward(loss)
        trainer.optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _update_labels(
    model: CompetitionModel,
    tissue: Tissue,
    trainer: Trainer,
    labels: NDArray[np.int32],
    instance_type: NDArray[np.int64],
    parameters: PublishedParameters,
    *,
    gated: bool,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """One update of the whole tissue, window by window with margins, from the labels before it."""
    rule = PublishedRule(
        territory_px=parameters.territory_px,
        confidence_threshold=parameters.confidence_threshold,
        # Without a gate nothing is gated, whatever the rule says.
        attribution_gate="dominant" if parameters.attribution_gate == "none" else parameters.attribution_gate,
    )
    new = labels.copy()
    n_types = trainer.state.posterior.shape[1]
    for window in tiles(tissue.shape, parameters.tile_size_px):
        halo = window.grown(_ATTRIBUTION_HALO_PX)
        dynamic = halo.cut(labels)
        present = np.unique(instance_type[np.unique(dynamic)])
        present = present[present > 0]
        if len(present) == 0:
            continue
        maps, embedding, head, sigma_px, _ = patch_inputs(model, tissue, trainer.state, halo)
        with torch.no_grad():
            probability = torch.softmax(head(maps)[0], 0).cpu().numpy()
        attribution = None
        if gated:
            seed = torch.Generator(device=maps.device).manual_seed(int(rng.integers(2**31)))
            found = type_attribution(
                head, maps, embedding, [int(t) for t in present], sigma_px=sigma_px, n_probes=parameters.n_probes, generator=seed
            )
            attribution = np.full((n_types, halo.height, halo.width), np.nan, np.float32)
            attribution[present - 1] = found[0].cpu().numpy()
        updated = published_update(
            halo.cut(tissue.labels), dynamic, probability, instance_type=instance_type, attribution=attribution, rule=rule
        )
        inner = updated[_ATTRIBUTION_HALO_PX:-_ATTRIBUTION_HALO_PX, _ATTRIBUTION_HALO_PX:-_ATTRIBUTION_HALO_PX]
        new[window.y0 : window.y0 + window.height, window.x0 : window.x0 + window.width] = inner
    return new


def _confidence(
    model: CompetitionModel,
    tissue: Tissue,
    trainer: Trainer,
    cell: NDArray[np.int32],
    instance_type: NDArray[np.int64],
    parameters: PublishedParameters,
) -> NDArray[np.float32]:
    """Probability of the class of each molecule's cell (0 = background) at its pixel."""
    out = np.zeros(len(cell), np.float32)
    for window in tiles(tissue.shape, parameters.tile_size_px):
        index = tissue.molecules_in(window)
        if len(index) == 0:
            continue
        halo = window.grown(_ATTRIBUTION_HALO_PX)
        maps, _, head, _, _ = patch_inputs(model, tissue, trainer.state, halo)
        with torch.no_grad():
            probability = torch.softmax(head(maps)[0], 0).cpu().numpy()
        pixel = np.floor(tissue.molecules.yx_px[index]).astype(np.int64) - np.array([halo.y0, halo.x0])
        out[index] = probability[instance_type[cell[index]], pixel[:, 0], pixel[:, 1]]
    return out


def _cell_of(molecules: Molecules, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    pixel = np.floor(molecules.yx_px).astype(np.int64)
    cell: NDArray[np.int32] = labels[pixel[:, 0], pixel[:, 1]].astype(np.int32)
    return cell


def _set_learning_rate(trainer: Trainer, rate: float) -> None:
    group: dict[str, Any]
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate
