"""Which gene matters where for which cell type: computational information discarding in closed form and as published."""

from sjg.attribution._closed_form import closed_form
from sjg.attribution._contribution import type_contribution
from sjg.attribution._gene import SplatChannels, splat_closed_form, type_attribution
from sjg.attribution._gradient import gradient
from sjg.attribution._molecules import GeneImportance, molecule_attribution
from sjg.attribution._optimize import optimize
from sjg.attribution._response import noise_response, noise_scale

__all__ = [
    "GeneImportance",
    "SplatChannels",
    "closed_form",
    "gradient",
    "molecule_attribution",
    "noise_response",
    "noise_scale",
    "optimize",
    "splat_closed_form",
    "type_attribution",
    "type_contribution",
]
