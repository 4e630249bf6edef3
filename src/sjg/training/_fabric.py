"""The devices of a run, through Lightning Fabric, and what its processes tell each other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric

from sjg.core import DeviceError

_T = TypeVar("_T")
#: elements sent together when arrays are added up
_CHUNK = 1 << 22
_KINDS = ("auto", "cpu", "cuda", "mps")


def make_fabric(device: str = "auto") -> Fabric:
    """A launched Fabric: one device, or one for each process of ``torchrun``.

    Under ``torchrun`` (one process for each GPU, on one machine or several) processes are joined by distributed data parallelism.

    Parameters
    ----------
    device
        ``"auto"`` (CUDA, else Apple's MPS, else CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises
    ------
    DeviceError
        The device is unknown or not available.
    """
    kind, _, number = str(device).partition(":")
    if kind not in _KINDS or (number and not number.isdigit()):
        raise DeviceError(f"Unknown device {device!r}; choose 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "device='cuda', but PyTorch finds no CUDA GPU (no driver, or a CPU-only build); use device='cpu' or 'auto', "
            "or install a CUDA build of PyTorch."
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise DeviceError(
            f"device={device!r}, but there are {torch.cuda.device_count()} GPUs; choose cuda:0 .. cuda:{torch.cuda.device_count() - 1}."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device='mps', but this machine has no Apple GPU that PyTorch can use; use device='cpu' or 'auto'.")
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes > 1 and "LOCAL_WORLD_SIZE" in os.environ:
        if number:
            raise DeviceError(f"device={device!r} names one GPU, but there are {n_processes} processes; use device='cuda' or 'auto'.")
        n_local = int(os.environ["LOCAL_WORLD_SIZE"])
        fabric = Fabric(accelerator=kind, strategy="ddp", devices=n_local, num_nodes=n_processes // n_local)
    else:
        fabric = Fabric(accelerator=kind, devices=[int(number)] if number and kind == "cuda" else 1)
    fabric.launch()
    return fabric


def share_of(fabric: Fabric, n: int) -> range:
    """Which of `n` jobs are those of this process."""
    return range(fabric.global_rank, n, fabric.world_size)


def gather(fabric: Fabric, share: Sequence[_T]) -> list[_T]:
    """The results of all processes for their :func:`share_of` jobs, in the order of the jobs."""
    if fabric.world_size == 1:
        return list(share)
    shares = every_value(fabric, list(share))
    return [shares[job % fabric.world_size][job // fabric.world_size] for job in range(sum(map(len, shares)))]


def every_value(fabric: Fabric, value: _T) -> list[_T]:
    """The values of all processes."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def reduce_gradients(fabric: Fabric, model: torch.nn.Module) -> None:
    """Add the gradients of all processes up; those of a parameter without one count as zero."""
    if fabric.world_size == 1:
        return
    trained = [p for p in model.parameters() if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in trained])
    torch.distributed.all_reduce(flat)
    for parameter, gradient in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        parameter.grad = gradient.view_as(parameter).clone()


def sum_over_ranks(fabric: Fabric, statistics: Any) -> None:
    """Add the tensors of a dataclass up over all processes, in place."""
    if fabric.world_size > 1:
        for field in dataclasses.fields(statistics):
            torch.distributed.all_reduce(getattr(statistics, field.name))


def sum_arrays(fabric: Fabric, *arrays: np.ndarray | None) -> None:
    """Add arrays of numbers up over all processes, in place and a part at a time."""
    if fabric.world_size == 1:
        return
    for array in arrays:
        if array is None:
            continue
        flat = array.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            part = torch.as_tensor(flat[start : start + _CHUNK].copy(), device=fabric.device)
            torch.distributed.all_reduce(part)
            flat[start : start + _CHUNK] = part.cpu().numpy()
