"""Labels of patches, kept in memory or on disk until they are stitched."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjg.core import CheckpointError

_SETTINGS = "segment_image.json"


class MemoryResults:
    """Labels of patches in a dictionary."""

    def __init__(self) -> None:
        self._labels: dict[int, dict[str, NDArray[np.int32]]] = {}

    def __contains__(self, index: int) -> bool:
        return index in self._labels

    def save(self, index: int, labels: Mapping[str, NDArray[np.int32]]) -> None:
        """Keep the labels of patch `index`."""
        self._labels[index] = dict(labels)

    def load(self, index: int) -> dict[str, NDArray[np.int32]]:
        """The labels of patch `index`."""
        return self._labels[index]


class FolderResults:
    """Labels of patches, one file each, so that an interrupted run goes on where it was.

    Parameters
    ----------
    folder
        Made where it does not exist.
    settings
        What the labels depend on, plain types.
    resume
        Keep what an earlier run left; otherwise its files are removed.

    Raises
    ------
    CheckpointError
        `resume`, and the earlier run had other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(settings, sort_keys=True, indent=1, default=str)
        file = folder / _SETTINGS
        if resume and file.is_file():
            before = file.read_text()
            if before != text:
                old, new = json.loads(before), json.loads(text)
                changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
                raise CheckpointError(
                    f"{str(folder)!r} holds patches of a run with other settings ({', '.join(changed)}); use the same settings, another "
                    "checkpoint_dir, or resume=False to start over."
                )
        else:
            for old_file in folder.glob("patch_*.npz"):
                old_file.unlink()
            file.write_text(text)

    def __contains__(self, index: int) -> bool:
        return self._file(index).is_file()

    def save(self, index: int, labels: Mapping[str, NDArray[np.int32]]) -> None:
        """Write the labels of patch `index`; the file appears when it is complete."""
        target = self._file(index)
        scratch = target.with_suffix(".part")
        with scratch.open("wb") as stream:
            arrays: dict[str, Any] = {name: _smallest(array) for name, array in labels.items()}
            np.savez_compressed(stream, **arrays)
        os.replace(scratch, target)

    def load(self, index: int) -> dict[str, NDArray[np.int32]]:
        """Read the labels of patch `index`."""
        with np.load(self._file(index)) as stored:
            return {name: stored[name].astype(np.int32) for name in stored.files}

    def _file(self, index: int) -> Path:
        return self.folder / f"patch_{index:06d}.npz"


def _smallest(labels: NDArray[np.int32]) -> NDArray[Any]:
    return labels.astype(np.uint16) if labels.max(initial=0) < 2**16 else labels
