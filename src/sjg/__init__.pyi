from . import attribution, core, datasets, expression, get, imaging, io, labels, metrics, networks, pl, pp, raster, tl, training
from ._settings import settings
from ._versions import print_versions

__all__ = [
    "attribution",
    "core",
    "datasets",
    "expression",
    "get",
    "imaging",
    "io",
    "labels",
    "metrics",
    "networks",
    "pl",
    "pp",
    "print_versions",
    "raster",
    "settings",
    "tl",
    "training",
]
__version__: str
