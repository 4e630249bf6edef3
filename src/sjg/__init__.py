"""sjg: joint cell segmentation and gene prioritisation for imaging spatial transcriptomics."""

import lazy_loader as _lazy

# the names live in __init__.pyi: type checkers read it, and lazy_loader imports a name on first use
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__version__ = "0.1.0"
