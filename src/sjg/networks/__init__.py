"""Networks: a U-Net on splatted transcripts and the scorer of candidate cells."""

from sjg.networks._scorer import CandidateScorer
from sjg.networks._splat_unet import SplatUNet

__all__ = ["CandidateScorer", "SplatUNet"]
