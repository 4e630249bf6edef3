"""What the settings of every preset can do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from sjg.core import InputError


@dataclass(frozen=True)
class Knobs:
    """Base of the dataclasses of settings."""

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed; an unknown name is an error that lists the valid ones."""
        valid = {f.name for f in dataclasses.fields(self)}
        unknown = sorted(set(changes) - valid)
        if unknown:
            raise InputError(f"Unknown parameter {unknown[0]!r}; valid ones are {', '.join(sorted(valid))}.")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for ``uns`` and checkpoints."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
