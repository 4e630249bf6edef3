"""Segmenters with trained weights that the user brings; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjg.core import DependencyError, InputError

#: package to install, and where its weights lie
_HOW = {
    "cellpose": ("cellpose", "the model file itself (as in ~/.cellpose/models, or one that you trained)"),
    "stardist": ("stardist tensorflow", "the folder of the model, with config.json and weights_best.h5"),
    "mesmer": ("deepcell (which needs Python 3.10 or older)", "the folder of the saved Mesmer model (MultiplexSegmentation)"),
}
NETWORKS = tuple(_HOW)


def load_network(method: str, weights: str | Path | None, *, diameter_px: float | None) -> Callable[[NDArray[Any]], Any] | Any:
    """A function (y, x) or (2, y, x) -> labels for Cellpose and StarDist, an application with ``predict`` for Mesmer.

    Raises
    ------
    DependencyError
        The package is not installed.
    InputError
        No weights, or not where they are said to be.
    """
    package, place = _HOW[method]
    if weights is None:
        raise InputError(
            f"method={method!r} needs weights=, the path of trained weights: {place}. sjg downloads none; get them from the makers of the "
            'network under their licence, or use method="watershed", which needs no weights.'
        )
    path = Path(weights).expanduser()
    if not path.exists():
        raise InputError(f"weights={str(weights)!r} does not exist; method={method!r} needs {place}.")
    loader = {"cellpose": _cellpose, "stardist": _stardist, "mesmer": _mesmer}[method]
    try:
        return loader(path, diameter_px)
    except ImportError as error:
        raise DependencyError(
            f"method={method!r} needs a package that is not installed ({error}); install it with: pip install {package}"
        ) from error


def _cellpose(path: Path, diameter_px: float | None) -> Callable[[NDArray[Any]], Any]:
    models = import_module("cellpose.models")
    torch = import_module("torch")
    model = models.CellposeModel(gpu=torch.cuda.is_available(), pretrained_model=str(path))
    # up to version 3 the channels are named; version 4 takes whatever there is, and warns of names that it still accepts
    names_channels = "channels" in signature(model.eval).parameters and "use_bfloat16" not in signature(models.CellposeModel).parameters

    def segment(image: NDArray[Any]) -> Any:
        two = image.ndim == 3
        # Cellpose wants the cytoplasm first
        planes = np.stack([image[1:].max(axis=0), image[0]], axis=-1) if two else image
        options: dict[str, Any] = {"diameter": diameter_px}
        if names_channels:
            options["channels"] = [1, 2] if two else [0, 0]
        return model.eval(planes, **options)[0]

    return segment


def _stardist(path: Path, diameter_px: float | None) -> Callable[[NDArray[Any]], Any]:
    del diameter_px  # the model knows the size of its nuclei
    models = import_module("stardist.models")
    normalize = import_module("csbdeep.utils").normalize
    model = models.StarDist2D(None, name=path.name, basedir=str(path.parent))

    def segment(image: NDArray[Any]) -> Any:
        nucleus = image[0] if image.ndim == 3 else image
        return model.predict_instances(normalize(nucleus, 1, 99.8))[0]

    return segment


def _mesmer(path: Path, diameter_px: float | None) -> Any:
    del diameter_px  # Mesmer rescales by the pixel size
    applications = import_module("deepcell.applications")
    keras = import_module("tensorflow").keras
    return applications.Mesmer(model=keras.models.load_model(str(path), compile=False))
