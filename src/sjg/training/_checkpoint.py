"""Checkpoints from which a run continues bit for bit (on the same kind of device)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sjg._logging import logger
from sjg.core import CellTypes, CheckpointError, Molecules, parts, release, scratch_zeros
from sjg.training._parameters import Parameters

#: first line of a checkpoint; the second is the SHA-256 of the rest
_MAGIC = b"sjg checkpoint 4\n"
_SUFFIX, _PREVIOUS = ".pt", ".previous.pt"
#: name of the checkpoint of the training, in every preset
TRAINING = "checkpoint"


def fingerprint(molecules: Molecules, nuclei_labels: np.ndarray, types: CellTypes, parameters: Parameters, random_state: Any) -> str:
    """Hash of everything that decides a run; a checkpoint of another run is refused."""
    digest = hashlib.sha256()
    # sums of probabilities, whose last bits hang on the machine
    in_nuclei = None if types.in_nuclei is None else np.round(types.in_nuclei, 1)
    for array in (molecules.yx_px, molecules.gene, nuclei_labels, types.initial, types.confidence, types.profiles, in_nuclei):
        if array is None:
            continue
        flat = array.reshape(-1)
        for rows in parts(flat.size):
            digest.update(np.ascontiguousarray(flat[rows]).data)
        release(array)
    digest.update(json.dumps([molecules.gene_names, types.names, parameters.to_dict(), repr(random_state)]).encode())
    return digest.hexdigest()


def check_resumable(directory: Path) -> None:
    """Refuse to go on from a folder that holds no checkpoint of any run, before any work is done.

    Raises
    ------
    CheckpointError
        There is none.
    """
    if not any((directory / (TRAINING + suffix)).exists() for suffix in (_SUFFIX, _PREVIOUS)):
        raise no_checkpoint(directory)


def no_checkpoint(directory: Path | None) -> CheckpointError:
    """The error where `resume` finds nothing to go on from."""
    return CheckpointError(f"resume=True, but {directory} holds no checkpoint; run once with this checkpoint_dir, or set resume=False.")


class Checkpoints:
    """The checkpoints of a run; without a folder everything here does nothing.

    Every file is written beside its place and moved there when it is complete on disk; the one before it is kept as
    ``<name>.previous.pt``. Large arrays are memory-mapped in files of the folder and need no copy.

    Parameters
    ----------
    directory
        The folder; None for none.
    run
        :func:`fingerprint` of the run.
    every
        Steps (patches or tiles) between two checkpoints.
    fabric
        Processes: each keeps its own part of a pass over the tissue, the first one the training.
    """

    def __init__(self, directory: Path | None, run: str, *, every: int, fabric: Fabric) -> None:
        self.directory, self.run, self.every, self.fabric = directory, run, every, fabric
        self._stop = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, SIGTERM leads to a checkpoint and then to the end of the process (exit status 143)."""
        if self.directory is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: object) -> None:
            self._stop = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def after(self, step: int, content: Callable[[], dict[str, Any]], name: str, *, last: bool = False, own: bool = False) -> None:
        """Called after each step: writes a checkpoint where one is due.

        Parameters
        ----------
        step
            Steps done.
        content
            Makes the content.
        name
            Name of the file, without suffix.
        last
            Whether this was the last step, which is always kept.
        own
            Whether each process has a file of its own; otherwise the first one writes.

        Raises
        ------
        CheckpointError
            The folder cannot be written (full disk, no permission); the last good checkpoint is kept.
        SystemExit
            SIGTERM has come and the checkpoint is written.
        """
        if self.directory is None:
            return
        stop = self._stop_anywhere() if not own else self._stop
        if last or stop or step % self.every == 0:
            made = content()
            if own or self.fabric.global_rank == 0:
                self._write(self._name(name, own=own), made)
        if stop:
            logger.warning("SIGTERM: checkpoint written to %s; resume=True goes on from it", self.directory)
            raise SystemExit(128 + signal.SIGTERM)

    def load(self, name: str, *, own: bool = False) -> dict[str, Any] | None:
        """The newest checkpoint of that name; None where there is none.

        Raises
        ------
        CheckpointError
            It is damaged, or it belongs to other data or settings.
        """
        if self.directory is None:
            return None
        name = self._name(name, own=own)
        path, previous = self.directory / (name + _SUFFIX), self.directory / (name + _PREVIOUS)
        if not path.exists():
            if not previous.exists():
                return None
            path = previous
        try:
            content = _read(path, self.fabric.device)
        except Exception as error:  # torch raises many kinds for a damaged file
            rest = f"delete it and start again with resume=False ({type(error).__name__}: {error})"
            if path != previous and previous.exists():
                rest = f"the one before it, {previous.name}, is kept: delete {path.name} and resume=True goes on from there"
            raise CheckpointError(f"{path} is damaged; {rest}.") from error
        if content.get("run") != self.run:
            raise CheckpointError(
                f"{path} belongs to a run with other data, parameters or random_state; give the same arguments, another checkpoint_dir, "
                "or resume=False."
            )
        return content

    def clear(self) -> None:
        """Forget checkpoints of an earlier run, which a new run would otherwise mix with its own."""
        if self.directory is None or self.fabric.global_rank != 0:
            return
        for path in (*self.directory.glob("checkpoint*.pt"), *self.directory.glob("tiles-*")):
            path.unlink()

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
        """Zeros, or what a file of that name in the folder holds from before."""
        path = None
        if self.directory is not None:
            self._make_directory()
            path = self.directory / f"tiles-{self.fabric.global_rank}-{name}.bin"
        return scratch_zeros(shape, dtype, path=path)

    def _name(self, name: str, *, own: bool) -> str:
        return f"{name}-{self.fabric.global_rank}" if own else name

    def _stop_anywhere(self) -> bool:
        if self.fabric.world_size == 1:
            return self._stop
        flag = torch.tensor([int(self._stop)], device=self.fabric.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item())

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)  # type: ignore[union-attr]
        except OSError as error:
            raise CheckpointError(f"checkpoint_dir {self.directory} cannot be made: {error}; choose another.") from error

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self._make_directory()
        folder: Path = self.directory  # type: ignore[assignment]
        partial = folder / f"{name}.partial"
        buffer = io.BytesIO()
        torch.save({**content, "run": self.run}, buffer)
        payload = buffer.getbuffer()
        target, previous = folder / (name + _SUFFIX), folder / (name + _PREVIOUS)
        try:
            with partial.open("wb") as stream:
                stream.write(_MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n")
                stream.write(payload)
                stream.flush()
                os.fsync(stream.fileno())
            if target.exists():
                _keep(target, previous)
            os.replace(partial, target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise CheckpointError(
                f"The checkpoint could not be written to {self.directory}: {error}. Free space or choose another checkpoint_dir; "
                "the last complete checkpoint is kept, so resume=True continues from it."
            ) from error


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, so that there is never a moment without its first one."""
    second = previous.with_suffix(".partial")
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, second)
    os.replace(second, previous)


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    with path.open("rb") as stream:
        if stream.readline() != _MAGIC:
            raise ValueError("not a checkpoint of this version of sjg")
        digest = stream.readline().strip().decode()
        payload = stream.read()
    if hashlib.sha256(payload).hexdigest() != digest:
        raise ValueError("checksum differs")
    content: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    return content
