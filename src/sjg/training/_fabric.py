"""The device of a run, through Lightning Fabric."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric

from sjg.core import DeviceError

_KINDS = ("auto", "cpu", "cuda", "mps")


def make_fabric(device: str = "auto") -> Fabric:
    """A launched Fabric for one device.

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
    fabric = Fabric(accelerator=kind, devices=[int(number)] if number and kind == "cuda" else 1)
    fabric.launch()
    return fabric
