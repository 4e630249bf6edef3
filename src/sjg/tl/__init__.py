"""What users call: segment, attribute, assign, count and evaluate."""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_aggregate": ["aggregate", "assign_transcripts"],
        "_aggregate_channels": ["aggregate_channels"],
        "_attribute": ["attribute"],
        "_evaluate": ["evaluate"],
        "_panel": ["panel_curve", "select_panel"],
        "_match_nuclei": ["match_nuclei"],
        "_segment": ["segment"],
        "_segment_image": ["segment_image"],
        "_segmentation_quality": ["segmentation_quality"],
    },
)
