"""Exceptions raised by sjg; all derive from :class:`SjgError`."""

from __future__ import annotations


class SjgError(Exception):
    """Base class of every error that sjg raises on purpose."""


class InputError(SjgError, ValueError):
    """The data or an argument cannot be used; the message names the element and says how to mend it."""


class MissingElementError(InputError, KeyError):
    """A key names no element of the object; the message lists the valid ones."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class AmbiguousElementError(InputError):
    """Several elements would do and none was chosen."""


class ExistingElementError(InputError):
    """An output key is taken and ``overwrite=True`` was not given."""


class DeviceError(SjgError, RuntimeError):
    """The asked-for device is not available."""


class CheckpointError(SjgError, RuntimeError):
    """A checkpoint is missing, damaged or belongs to another run."""


class MemoryLimitError(SjgError, MemoryError):
    """Not even the smallest piece of work fits into the memory that is free."""


class ClusterError(SjgError, RuntimeError):
    """The workers of a cluster were lost; the message says how to go on."""


class ScratchError(SjgError, OSError):
    """There is no room for working files, or their folder cannot be written."""


class DependencyError(SjgError, ImportError):
    """An optional package is not installed; the message says how to install it."""
