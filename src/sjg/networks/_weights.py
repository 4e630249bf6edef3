"""Weights that come with the package, as plain arrays."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch

from sjg.core import InputError
from sjg.networks._claim_net import ClaimNet

_SETTINGS = "settings"


def save_claim_net(net: ClaimNet, path: Path) -> None:
    """Write a network as a compressed ``.npz`` of plain arrays.

    Parameters
    ----------
    net
        Trained network.
    path
        Where to; read back by :func:`load_claim_net`.
    """
    arrays = {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}
    arrays[_SETTINGS] = np.array([net.n_inputs, *net.channels])
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load_claim_net(path: Path | None = None) -> ClaimNet:
    """The network of claims, frozen.

    Parameters
    ----------
    path
        A file of :func:`save_claim_net`; None takes the weights that come with the package, trained on simulated tissue by
        ``benchmarks/pretraining``.

    Raises
    ------
    InputError
        The file does not hold such a network.
    """
    return _packaged() if path is None else _read(path)


@cache
def _packaged() -> ClaimNet:
    with as_file(files("sjg.networks") / "weights" / "claims.npz") as path:
        return _read(path)


def _read(path: Path) -> ClaimNet:
    try:
        with np.load(path, allow_pickle=False) as stored:
            n_inputs, *channels = (int(v) for v in stored[_SETTINGS])
            # Weights are read, not drawn: torch's global generator stays as it is.
            with torch.random.fork_rng(devices=[]):
                net = ClaimNet(n_inputs, channels=channels)
            net.load_state_dict({name: torch.from_numpy(stored[name]) for name in stored.files if name != _SETTINGS})
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} holds no network of claims ({error}); give a file written by sjg.networks.save_claim_net.") from error
    return net.requires_grad_(False).eval()
