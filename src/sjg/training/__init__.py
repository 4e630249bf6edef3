"""Self-training of the network and the competition of candidate cells; arrays and tensors only."""

from sjg.training._attribution import METHODS as ATTRIBUTION_METHODS
from sjg.training._attribution import attribution_maps, importance_by
from sjg.training._checkpoint import check_resumable
from sjg.training._fabric import make_fabric
from sjg.training._missed_nuclei import FoundNuclei, add_missed_nuclei, paint_nuclei
from sjg.training._network_store import load_model
from sjg.training._parameters import PRESETS, Parameters
from sjg.training._published import segment_published
from sjg.training._published_attribution import published_importance_by, published_maps
from sjg.training._published_features import ChannelFeatures, TranscriptFeatures, sample_molecules
from sjg.training._published_network import KIND as PUBLISHED_KIND
from sjg.training._published_network import load_published
from sjg.training._published_parameters import PublishedAttribution, PublishedParameters
from sjg.training._run import segment_tissue
from sjg.training._surroundings import nucleus_or_ring
from sjg.training._tissue import Tissue

__all__ = [
    "ATTRIBUTION_METHODS",
    "PRESETS",
    "PUBLISHED_KIND",
    "ChannelFeatures",
    "FoundNuclei",
    "Parameters",
    "PublishedAttribution",
    "PublishedParameters",
    "Tissue",
    "TranscriptFeatures",
    "add_missed_nuclei",
    "attribution_maps",
    "check_resumable",
    "importance_by",
    "load_model",
    "load_published",
    "make_fabric",
    "nucleus_or_ring",
    "paint_nuclei",
    "published_importance_by",
    "published_maps",
    "sample_molecules",
    "segment_published",
    "segment_tissue",
]
