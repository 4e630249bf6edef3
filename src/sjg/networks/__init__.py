"""Networks: a U-Net on splatted transcripts, the scorer of candidate cells, and the pretrained network of claims."""

from sjg.networks._claim_net import ClaimNet
from sjg.networks._scorer import CandidateScorer
from sjg.networks._splat_unet import SplatUNet

__all__ = ["CandidateScorer", "ClaimNet", "SplatUNet"]
