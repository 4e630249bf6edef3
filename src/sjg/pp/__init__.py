"""Preparation: nuclei and their first cell types."""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_annotate_nuclei": ["annotate_nuclei"],
        "_patches": ["patch_quality", "patches"],
        "_segment_nuclei": ["segment_nuclei"],
    },
)
