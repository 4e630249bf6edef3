"""Checkpoints of the published self-training and the cache of its labels."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sjg.core import CellTypes, CheckpointError
from sjg.training._checkpoint import TRAINING, no_checkpoint
from sjg.training._published_features import Features
from sjg.training._published_parameters import PublishedParameters

CHECKPOINT, LABELS = f"{TRAINING}.pt", "labels.npz"
_FORMAT = 2
#: what may differ between a run and the one that continues it
_FREE = ("n_rounds", "checkpoint_interval", "tile_size_px", "n_importance_patches")


def fingerprint(
    features: Features,
    nuclei_labels: NDArray[np.integer],
    types: CellTypes,
    parameters: PublishedParameters,
    random_state: int,
    trained: NDArray[np.bool_] | None,
) -> str:
    """Hash of everything that decides an epoch."""
    found = hashlib.sha256(features.digest().encode())
    for array in (nuclei_labels, types.initial, types.confidence, types.profiles, trained):
        if array is not None:
            found.update(np.ascontiguousarray(array).tobytes())
    knobs = {name: value for name, value in parameters.to_dict().items() if name not in _FREE}
    found.update(json.dumps([types.names, knobs, random_state]).encode())
    return found.hexdigest()


def save(directory: Path, content: dict[str, Any], run: str, *, labels: NDArray[np.integer], classes: NDArray[np.integer]) -> None:
    """Write the label cache and the checkpoint; each replaces its predecessor only when it is whole.

    ``labels.npz`` holds the dynamic labels, ``instance`` and ``class`` (H, W), for other programs; a run continues from
    ``checkpoint.pt``, which has them too.

    Raises
    ------
    CheckpointError
        The folder cannot be written; the last good files are kept.
    """
    cache, checkpoint = io.BytesIO(), io.BytesIO()
    np.savez_compressed(cache, allow_pickle=False, instance=labels, **{"class": classes})
    torch.save({"format": _FORMAT, "run": run, **content}, checkpoint)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in ((LABELS, cache), (CHECKPOINT, checkpoint)):
            _replace(directory / name, data.getbuffer())
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint could not be written to {directory}: {error}. Free space or choose another checkpoint_dir; "
            "the last complete checkpoint is kept, so resume=True continues from it."
        ) from error


def load(directory: Path, run: str, *, device: torch.device) -> dict[str, Any]:
    """The content that :func:`save` got.

    Raises
    ------
    CheckpointError
        There is no checkpoint, it is damaged, or it belongs to other data or settings.
    """
    path = directory / CHECKPOINT
    if not path.exists():
        raise no_checkpoint(directory)
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete it and start again with resume=False."
        ) from error
    if content.get("format") != _FORMAT or content.get("run") != run:
        raise CheckpointError(
            f"{path} belongs to a run with other data, parameters or random_state; give the same arguments, another checkpoint_dir, or resume=False."
        )
    return content


def _replace(target: Path, data: memoryview) -> None:
    partial = target.with_name(f"{target.name}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
