"""The trained model as plain arrays, so that it travels in ``uns`` and needs no pickle."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sjg.core import InputError
from sjg.training._model import CompetitionModel
from sjg.training._parameters import Parameters
from sjg.training._state import CellState

_STATE_FIELDS = ("density", "profiles", "ambient", "prior_ambient", "posterior")


def store_model(model: CompetitionModel, state: CellState, parameters: Parameters) -> dict[str, Any]:
    """Plain nested dict of numbers, lists and NumPy arrays.

    Parameters
    ----------
    model
        Trained model.
    state
        Estimates of the cells; densities and profiles are needed to use the model again.
    parameters
        Settings that fix its shape.
    """
    weights = {k.replace(".", "/"): v.detach().cpu().numpy() for k, v in model.state_dict().items()}
    return {
        "radius_px": model.radius_px,
        "density": model.density,
        "parameters": parameters.to_dict(),
        "weights": {k.replace("/", "__"): v for k, v in weights.items()},
        "state": {k: getattr(state, k).detach().cpu().numpy() for k in _STATE_FIELDS},
    }


def load_model(stored: dict[str, Any], *, device: torch.device | str = "cpu") -> tuple[CompetitionModel, CellState, Parameters]:
    """Rebuild what :func:`store_model` stored.

    Parameters
    ----------
    stored
        The dict, also after a round trip through zarr.
    device
        Where to put the model.

    Raises
    ------
    InputError
        The dict is incomplete.
    """
    try:
        raw = {k: _plain(v) for k, v in stored["parameters"].items()}
        parameters = Parameters().replace(**raw)
        profiles = np.asarray(stored["state"]["profiles"])
        model = CompetitionModel(
            profiles.shape[1], profiles.shape[0], parameters, radius_px=float(stored["radius_px"]), density=float(stored["density"])
        )
        weights = {k.replace("__", "."): torch.as_tensor(np.asarray(v)) for k, v in stored["weights"].items()}
        shapes = {k: v.shape for k, v in model.state_dict().items()}
        model.load_state_dict({k: v.reshape(shapes[k]) if k in shapes else v for k, v in weights.items()})
        # runs of earlier versions took noise to be composed as all molecules
        kept = {"prior_ambient": stored["state"]["ambient"], **stored["state"]}
        fields = {k: torch.as_tensor(np.asarray(kept[k]), dtype=torch.float32).to(device) for k in _STATE_FIELDS}
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"The stored network is incomplete ({error}); run sjg.tl.segment again.") from error
    state = CellState(
        initial_logit=torch.zeros_like(fields["posterior"]),
        prior_profiles=fields["profiles"].clone(),
        **fields,
    )
    return model.to(device), state, parameters


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    return tuple(value) if isinstance(value, list) else value
