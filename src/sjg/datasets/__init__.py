"""Data sets: simulated tissue with known cells, and the public mouse hippocampus CA1 section."""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_mouse_ca1": ["mouse_ca1"],
        "_simulated_tissue": ["simulated_tissue"],
    },
)
