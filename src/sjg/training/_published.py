"""The published self-training: cross entropy on dynamic labels that grow by the paper's update rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sjg.core import CellTypes, Channels, Molecules, Segmentation, generator
from sjg.labels import class_of, published_update
from sjg.training import _published_checkpoint as checkpoint
from sjg.training._published_attribution import published_importance
from sjg.training._published_features import ChannelFeatures, Features, TranscriptFeatures
from sjg.training._published_gate import HALO_PX, tissue_gate
from sjg.training._published_network import PublishedNetwork, log_profiles_of, store_published
from sjg.training._published_parameters import PublishedParameters
from sjg.training._windows import Window, tiles

OnProgress = Callable[[dict[str, Any]], None]
#: class of pixels that the loss ignores
_IGNORED = -100


def segment_published(
    data: Molecules | Channels,
    nuclei_labels: NDArray[np.int32],
    types: CellTypes,
    parameters: PublishedParameters,
    *,
    fabric: Fabric,
    random_state: int = 0,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    restrict_to_mask: bool = True,
    trained: NDArray[np.bool_] | None = None,
    on_progress: OnProgress | None = None,
) -> Segmentation:
    """Segment a tissue by the rule of the paper :cite:p:`ma2026segjointgene`.

    Unlabelled pixels are background, the network sees transcripts or channels only, types stay as they start, and transcripts belong to
    the cell whose mask holds them. Labels are those of the whole tissue, so no cell is cut at a patch.

    Parameters
    ----------
    data
        Transcripts, or the densities of channels.
    nuclei_labels, types, fabric, random_state, on_progress
        As in :func:`sjg.training.segment_tissue`. A nucleus without a type gets the network's after the first epoch.
    parameters
        Settings.
    checkpoint_dir
        Folder for a checkpoint and the label cache every `checkpoint_interval` epochs and at the end.
    resume
        Continue from the checkpoint there, bit for bit on a CPU; more epochs than before may be asked for.
    restrict_to_mask
        Has no effect: assignment is always by mask.
    trained
        (H, W) bool: pixels that the loss sees; None = all. Labels are updated everywhere.

    Returns
    -------
    Segmentation
        In grid pixels; of channels without molecules.

    Raises
    ------
    CheckpointError
        There is no checkpoint of this run, or it cannot be written.
    """
    report = on_progress or (lambda record: None)
    run = PublishedRun(data, nuclei_labels, types, parameters, fabric=fabric, random_state=random_state, trained=trained)
    if resume and checkpoint_dir is not None:
        run.load(checkpoint_dir)
    while run.epoch < parameters.n_rounds:
        record = run.train_epoch()
        report({"phase": "training", "done": run.epoch, "total": parameters.n_rounds, **record})
        if checkpoint_dir is not None and (run.epoch % parameters.checkpoint_interval == 0 or run.epoch == parameters.n_rounds):
            run.save(checkpoint_dir)
    run.network.requires_grad_(False)
    report({"phase": "genes", "done": 0, "total": 1})
    importance = published_importance(
        run.network, run.features, nuclei_labels, run.instance_type, parameters, n_types=len(types.names), rng=generator(random_state, 4)
    )
    molecules = data if isinstance(data, Molecules) else Molecules(np.zeros((0, 2), np.float32), np.zeros(0, np.int32), data.names)
    cell = _cell_of(molecules, run.labels)
    report({"phase": "genes", "done": 1, "total": 1})
    return Segmentation(
        labels=run.labels.astype(np.int32),
        molecule_cell=cell,
        molecule_confidence=run.confidence(molecules, cell),
        cell_type=(run.instance_type[1:] - 1).astype(np.int32),
        cell_type_confidence=np.asarray(types.confidence, np.float32),
        type_names=types.names,
        gene_importance=importance,
        history=run.history,
        network=store_published(run.network, run.instance_type, parameters),
        parameters={**parameters.to_dict(), "random_state": random_state},
    )


class PublishedRun:
    """The state of a run; `network`, `optimizer`, `labels`, `instance_type`, `gate`, `rng`, `epoch` and `history` change, nothing else.

    Parameters
    ----------
    data, nuclei_labels, types, parameters, fabric, random_state, trained
        As in :func:`segment_published`.
    """

    def __init__(
        self,
        data: Molecules | Channels,
        nuclei_labels: NDArray[np.int32],
        types: CellTypes,
        parameters: PublishedParameters,
        *,
        fabric: Fabric,
        random_state: int = 0,
        trained: NDArray[np.bool_] | None = None,
    ) -> None:
        self.nuclei, self.parameters, self.fabric, self.trained = nuclei_labels, parameters, fabric, trained
        self._molecules = data if isinstance(data, Molecules) else None
        area = np.bincount(nuclei_labels.ravel())
        radius_px = float(np.sqrt(np.median(area[1:]) / np.pi))
        self.features: Features = (
            TranscriptFeatures(data, nuclei_labels.shape, sigma_px=parameters.raster_radii * radius_px)
            if isinstance(data, Molecules)
            else ChannelFeatures(data)
        )
        #: 0 = no type yet
        self.instance_type = np.concatenate([[0], types.initial + 1]).astype(np.int64)
        n_types = len(types.names)
        self.abundance = self.features.totals(class_of(nuclei_labels, self.instance_type), n_types + 1)
        density = self.features.totals((nuclei_labels > 0).astype(np.int32), 2)[1].sum() / area[1:].sum()
        # Only the draw of initial weights reads torch's global generator; it is put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(random_state, 0).integers(2**31)))
            network = PublishedNetwork(
                len(self.features.names),
                n_types,
                parameters,
                radius_px=radius_px,
                density=max(float(density), 1e-6),
                log_profiles=log_profiles_of(self.abundance),
            )
        optimizer = torch.optim.Adam(network.parameters(), parameters.learning_rate)
        self._model, self.optimizer = fabric.setup(network, optimizer)
        self.network = network
        self.labels = nuclei_labels.copy()
        self.gate: NDArray[np.uint8] | None = None
        self.rng = generator(random_state, 1)
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self._fingerprint = lambda: checkpoint.fingerprint(self.features, nuclei_labels, types, parameters, random_state, trained)

    def train_epoch(self) -> dict[str, Any]:
        """Every patch once, in random order; then, but for the first epoch, attribution where it is due, and the label update."""
        parameters = self.parameters
        losses = [self._step(windows) for windows in self._batches()]
        if (self.instance_type[1:] == 0).any():
            self._type_by_network()
        if self.epoch > 0:
            late = self.epoch - parameters.attribution_epoch
            if parameters.attribution != "none" and late >= 0 and (self.gate is None or late % parameters.attribution_interval == 0):
                self.gate = tissue_gate(
                    self.network, self.features, self.labels, self.instance_type, parameters, abundance=self.abundance, rng=self.rng
                )
            self.labels = self._updated()
        self.epoch += 1
        record = {"epoch": self.epoch, "loss": float(np.mean(losses)), "covered": float((self.labels > 0).mean())}
        if self._molecules is not None:
            record["fraction_assigned"] = float((_cell_of(self._molecules, self.labels) > 0).mean())
        self.history.append(record)
        return record

    def _batches(self) -> list[list[Window]]:
        """Patches side by side, in random order; those without a pixel for the loss are left out."""
        height, width = self.labels.shape
        side = self.parameters.patch_size_px
        windows = [
            Window(max(min(w.y0, height - side), 0), max(min(w.x0, width - side), 0), side, side) for w in tiles((height, width), side)
        ]
        trained = self.trained
        if trained is not None:
            windows = [w for w in windows if w.cut(trained).any()]
        order = self.rng.permutation(len(windows))
        size = self.parameters.batch_size
        return [[windows[i] for i in order[first : first + size]] for first in range(0, len(order), size)]

    def _step(self, windows: list[Window]) -> float:
        maps = self.features.maps(windows, self.network.embedding())
        target = torch.as_tensor(np.stack([self._target(w) for w in windows]), device=maps.device)
        loss = torch.nn.functional.cross_entropy(self._model(maps), target, ignore_index=_IGNORED)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        return float(loss.detach())

    def _target(self, window: Window) -> NDArray[np.int64]:
        """Class of every pixel; outside the tissue, in nuclei without a type, and where the loss must not look, none."""
        labels = window.cut(self.labels, fill=-1)
        target = np.where(labels > 0, self.instance_type[np.maximum(labels, 0)], 0)
        ignored = (labels < 0) | ((labels > 0) & (target == 0))
        if self.trained is not None:
            ignored |= ~window.cut(self.trained)
        return np.where(ignored, _IGNORED, target)

    def _type_by_network(self) -> None:
        """Give nuclei without a type the class that the network holds most probable in them."""
        total = np.zeros((len(self.instance_type), len(self.abundance)))
        for tile in tiles(self.labels.shape, self.parameters.tile_size_px):
            nuclei = tile.cut(self.nuclei)
            untyped = (nuclei > 0) & (self.instance_type[nuclei] == 0)
            if untyped.any():
                probability = self._probability(tile)[:, HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]
                np.add.at(total, nuclei[untyped], probability[:, untyped].T)
        untyped_ids = np.flatnonzero(self.instance_type[1:] == 0) + 1
        self.instance_type[untyped_ids] = total[untyped_ids, 1:].argmax(1) + 1

    def _updated(self) -> NDArray[np.int32]:
        """One update of the whole tissue, window by window with margins, from the labels before it."""
        new = self.labels.copy()
        for tile in tiles(self.labels.shape, self.parameters.tile_size_px):
            window = tile.grown(HALO_PX)
            dynamic = window.cut(self.labels)
            if not dynamic.any():
                continue
            passing = None
            if self.gate is not None:
                packed = np.stack([window.cut(plane) for plane in self.gate])
                passing = np.unpackbits(packed, axis=0, count=len(self.abundance) - 1).astype(bool)
            updated = published_update(
                window.cut(self.nuclei),
                dynamic,
                self._probability(tile),
                instance_type=self.instance_type,
                passing=passing,
                rule=self.parameters.rule(),
            )
            new[tile.y0 : tile.y0 + tile.height, tile.x0 : tile.x0 + tile.width] = updated[HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]
        return new

    @torch.no_grad()
    def _probability(self, tile: Window) -> NDArray[np.float32]:
        """(K + 1, H, W) class probabilities of a tile and its margin."""
        maps = self.features.maps([tile.grown(HALO_PX)], self.network.embedding())
        found: NDArray[np.float32] = torch.softmax(self.network(maps)[0], 0).cpu().numpy()
        return found

    def confidence(self, molecules: Molecules, cell: NDArray[np.int32]) -> NDArray[np.float32]:
        """(N,) probability of the class of each molecule's cell (background where it has none) at its pixel."""
        out = np.zeros(len(cell), np.float32)
        if len(cell) == 0:
            return out
        pixel = molecules.yx_px.astype(np.int64)
        for tile in tiles(self.labels.shape, self.parameters.tile_size_px):
            y, x = pixel[:, 0] - tile.y0, pixel[:, 1] - tile.x0
            here = np.flatnonzero((y >= 0) & (y < tile.height) & (x >= 0) & (x < tile.width))
            if len(here):
                out[here] = self._probability(tile)[self.instance_type[cell[here]], y[here] + HALO_PX, x[here] + HALO_PX]
        return out

    def save(self, directory: Path) -> None:
        """Write checkpoint and label cache."""
        content = {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "labels": torch.from_numpy(self.labels),
            "instance_type": torch.from_numpy(self.instance_type),
            "gate": None if self.gate is None else torch.from_numpy(self.gate),
            "rng": json.dumps(self.rng.bit_generator.state),
            "history": json.dumps(self.history),
        }
        classes = class_of(self.labels, self.instance_type).astype(np.int32)
        checkpoint.save(directory, content, self._fingerprint(), labels=self.labels, classes=classes)

    def load(self, directory: Path) -> None:
        """Take up the saved state."""
        content = checkpoint.load(directory, self._fingerprint(), device=self.fabric.device)
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.labels = content["labels"].cpu().numpy().copy()
        self.instance_type = content["instance_type"].cpu().numpy().copy()
        self.gate = None if content["gate"] is None else content["gate"].cpu().numpy().copy()
        self.rng.bit_generator.state = json.loads(content["rng"])
        self.epoch = int(content["epoch"])
        self.history = json.loads(content["history"])


def _cell_of(molecules: Molecules, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    pixel = molecules.yx_px.astype(np.int64)
    cell: NDArray[np.int32] = labels[pixel[:, 0], pixel[:, 1]].astype(np.int32)
    return cell
