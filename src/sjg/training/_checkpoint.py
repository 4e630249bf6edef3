"""Atomic checkpoints from which a run continues bit for bit (on the same device)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sjg.core import CellTypes, CheckpointError, Molecules
from sjg.training._parameters import Parameters
from sjg.training._state import CellState, Evidence
from sjg.training._trainer import Trainer

_NAME = "checkpoint.pt"
_FORMAT = 1


def fingerprint(molecules: Molecules, nuclei_labels: np.ndarray, types: CellTypes, parameters: Parameters, random_state: Any) -> str:
    """Hash of everything that decides a run; a checkpoint of another run is refused."""
    digest = hashlib.sha256()
    for array in (molecules.yx_px, molecules.gene, nuclei_labels, types.initial, types.confidence, types.profiles):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(json.dumps([molecules.gene_names, types.names, parameters.to_dict(), repr(random_state)]).encode())
    return digest.hexdigest()


def save_checkpoint(directory: Path, trainer: Trainer, history: list[dict[str, Any]], run: str) -> None:
    """Write the state of a run; the previous checkpoint stays until the new one is complete on disk.

    Raises
    ------
    CheckpointError
        The folder cannot be written (full disk, no permission); the last good checkpoint is kept.
    """
    content = {
        "format": _FORMAT,
        "run": run,
        "step": trainer.step,
        "model": trainer.model.module.state_dict(),
        "average": trainer.average,
        "optimizer": trainer.optimizer.state_dict(),
        "state": trainer.state.tensors(),
        "evidence": {k: getattr(trainer.evidence, k) for k in trainer.evidence.__dataclass_fields__},
        "dynamic": torch.from_numpy(trainer.dynamic),
        "rng": json.dumps(trainer.rng.bit_generator.state),
        "history": json.dumps(history),
    }
    target = directory / _NAME
    partial = directory / f"{_NAME}.partial"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"The checkpoint could not be written to {directory}: {error}. Free space or choose another checkpoint_dir; "
            "the last complete checkpoint is kept, so resume=True continues from it."
        ) from error


def load_checkpoint(directory: Path, trainer: Trainer, run: str) -> list[dict[str, Any]]:
    """Put a trainer into the saved state and return the history.

    Raises
    ------
    CheckpointError
        There is no checkpoint, it is damaged, or it belongs to other data or settings.
    """
    path = directory / _NAME
    if not path.exists():
        raise CheckpointError(f"resume=True, but {directory} holds no {_NAME}; run once with this checkpoint_dir, or set resume=False.")
    try:
        content = torch.load(path, map_location=trainer.fabric.device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete it and start again with resume=False."
        ) from error
    if content.get("format") != _FORMAT or content.get("run") != run:
        raise CheckpointError(
            f"{path} belongs to a run with other data, parameters or random_state; give the same arguments, another checkpoint_dir, or resume=False."
        )
    trainer.model.module.load_state_dict(content["model"])
    trainer.average = content["average"]
    trainer.optimizer.load_state_dict(content["optimizer"])
    trainer.state = CellState(**content["state"])
    trainer.evidence = Evidence(**content["evidence"])
    trainer.dynamic = content["dynamic"].cpu().numpy().copy()
    trainer.rng.bit_generator.state = json.loads(content["rng"])
    trainer.step = int(content["step"])
    history: list[dict[str, Any]] = json.loads(content["history"])
    return history
