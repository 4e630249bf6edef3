"""Errors, types, random states: what every layer may use."""

from sjg.core.buckets import Buckets, parts, strips
from sjg.core.errors import (
    AmbiguousElementError,
    CheckpointError,
    ClusterError,
    DependencyError,
    DeviceError,
    ExistingElementError,
    InputError,
    MemoryLimitError,
    MissingElementError,
    ScratchError,
    SjgError,
)
from sjg.core.lookup import values_at
from sjg.core.random import generator
from sjg.core.scratch import GrowingArray, Releasing, flush, release, scratch_zeros
from sjg.core.types import CellTypes, Channels, Grid, Molecules, Segmentation, Spread

__all__ = [
    "AmbiguousElementError",
    "Buckets",
    "CellTypes",
    "Channels",
    "CheckpointError",
    "ClusterError",
    "DependencyError",
    "DeviceError",
    "ExistingElementError",
    "Grid",
    "GrowingArray",
    "InputError",
    "MemoryLimitError",
    "MissingElementError",
    "Molecules",
    "Releasing",
    "ScratchError",
    "Segmentation",
    "SjgError",
    "Spread",
    "flush",
    "generator",
    "parts",
    "release",
    "scratch_zeros",
    "strips",
    "values_at",
]
