"""Errors, types, random states: what every layer may use."""

from sjg.core.errors import (
    AmbiguousElementError,
    CheckpointError,
    DependencyError,
    DeviceError,
    ExistingElementError,
    InputError,
    MissingElementError,
    SjgError,
)
from sjg.core.random import generator
from sjg.core.types import CellTypes, Grid, Molecules, Segmentation

__all__ = [
    "AmbiguousElementError",
    "CellTypes",
    "CheckpointError",
    "DependencyError",
    "DeviceError",
    "ExistingElementError",
    "Grid",
    "InputError",
    "MissingElementError",
    "Molecules",
    "Segmentation",
    "SjgError",
    "generator",
]
