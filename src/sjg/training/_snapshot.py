"""What of a trainer goes into a checkpoint."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from sjg.training._state import CellState, Evidence
from sjg.training._trainer import Trainer


def snapshot(trainer: Trainer, history: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole state of a run between two steps.

    With several processes every one must call this: their evidence is added up.
    """
    pixel, label = trainer.dynamic.visited()
    return {
        "step": trainer.step,
        "n_rounds_done": trainer.n_rounds_done,
        "stopped": trainer.stopped,
        "patch_px": trainer.patch_px,
        "last_loss": trainer.last_loss,
        "model": trainer.model.module.state_dict(),
        "average": trainer.average,
        "optimizer": trainer.optimizer.state_dict(),
        "state": trainer.state.tensors(),
        "evidence": evidence_tensors(trainer.total_evidence()),
        "dynamic": (torch.from_numpy(pixel), torch.from_numpy(label)),
        "gate": trainer.gate.tensors(),
        "records": torch.tensor(trainer.records, dtype=torch.float64).reshape(-1, 2),
        "history": json.dumps(history),
    }


def restore(trainer: Trainer, content: dict[str, Any]) -> list[dict[str, Any]]:
    """Put a fresh trainer into the state of a snapshot and return the history."""
    trainer.model.module.load_state_dict(content["model"])
    trainer.average = content["average"]
    trainer.optimizer.load_state_dict(content["optimizer"])
    trainer.state = CellState(**content["state"])
    if trainer.fabric.global_rank == 0:
        trainer.evidence = Evidence(**content["evidence"])
    else:
        trainer.evidence = Evidence.empty(trainer.state)
    pixel, label = content["dynamic"]
    trainer.dynamic.restore(pixel.cpu().numpy(), label.cpu().numpy())
    trainer.gate.restore(content["gate"])
    trainer.records = [(float(a), float(b)) for a, b in content["records"].tolist()]
    trainer.step, trainer.n_rounds_done = int(content["step"]), int(content["n_rounds_done"])
    trainer.stopped = bool(content["stopped"])
    trainer.patch_px, trainer.last_loss = int(content["patch_px"]), float(content["last_loss"])
    history: list[dict[str, Any]] = json.loads(content["history"])
    return history


def evidence_tensors(evidence: Evidence) -> dict[str, torch.Tensor]:
    """The statistics by name."""
    return {name: getattr(evidence, name) for name in evidence.__dataclass_fields__}


def digest(*tensors: torch.Tensor) -> str:
    """Hash of tensors, to tell whether tiles were predicted with them."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()
