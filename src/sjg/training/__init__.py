"""Self-training of the network and the competition of candidate cells; arrays and tensors only."""

from sjg.training._attribution import METHODS as ATTRIBUTION_METHODS
from sjg.training._attribution import attribution_maps, importance_by
from sjg.training._fabric import make_fabric
from sjg.training._network_store import load_model
from sjg.training._parameters import PRESETS, Parameters, PublishedParameters
from sjg.training._published import segment_published
from sjg.training._run import segment_tissue
from sjg.training._tissue import Tissue

__all__ = [
    "ATTRIBUTION_METHODS",
    "PRESETS",
    "Parameters",
    "PublishedParameters",
    "Tissue",
    "attribution_maps",
    "importance_by",
    "load_model",
    "make_fabric",
    "segment_published",
    "segment_tissue",
]
