"""Files: platform folders in, patch files in and out, polygons, tables and transcripts out."""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_explorer": ["write_explorer"],
        "_geojson": ["to_geojson"],
        "_merscope": ["merscope"],
        "_patches_read": ["read_patches"],
        "_patches_write": ["write_patches"],
        "_write": ["write_h5ad", "write_transcripts_csv"],
        "_xenium": ["xenium"],
    },
)
