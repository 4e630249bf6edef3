"""Label images: growth, cleaning, the published update rule."""

from __future__ import annotations

import lazy_loader as _lazy

# torch is loaded by `grow` alone, on first use
__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_anchors": ["anchors", "attribution_agrees", "attribution_in_top", "drop_isolated", "smooth_confidence"],
        "_bridge": ["bridge_gaps"],
        "_clean": ["fill_holes", "keep_connected", "keep_largest", "label_pieces", "relabel_sequential"],
        "_grow": ["grow"],
        "_published": ["PublishedRule", "attribution_gate", "published_update", "remove_islands", "restore_core"],
        "_smooth": ["smooth_outlines"],
        "_territory": ["class_of", "territory"],
    },
)
