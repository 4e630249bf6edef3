"""What the settings of every preset can do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sjg.core import InputError


@dataclass(frozen=True)
class Knobs:
    """Base of the dataclasses of settings."""

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed; an unknown name, or a switch that is neither on nor off, is an error that says what is valid."""
        valid = {f.name for f in dataclasses.fields(self)}
        unknown = sorted(set(changes) - valid)
        if unknown:
            raise InputError(f"Unknown parameter {unknown[0]!r}; valid ones are {', '.join(sorted(valid))}.")
        for name, value in changes.items():
            # "no", or a string of a configuration file, would count as True
            if isinstance(getattr(self, name), bool) and not isinstance(value, bool | np.bool_):
                raise InputError(f"{name}={value!r}; give True or False.")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for ``uns`` and checkpoints."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
