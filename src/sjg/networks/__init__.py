"""Networks: a U-Net on splatted transcripts, the scorer of candidate cells, and the network of claims with its weights."""

from sjg.networks._claim_net import ClaimNet
from sjg.networks._scorer import CandidateScorer
from sjg.networks._splat_unet import SplatUNet
from sjg.networks._weights import load_claim_net, save_claim_net

__all__ = ["CandidateScorer", "ClaimNet", "SplatUNet", "load_claim_net", "save_claim_net"]
