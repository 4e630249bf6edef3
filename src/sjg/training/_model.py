"""Which cell does a point belong to? The differentiable competition between candidates and background."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sjg.core import InputError
from sjg.networks import CandidateScorer, SplatUNet
from sjg.raster import gaussian_blur, splat
from sjg.training._parameters import Parameters
from sjg.training._plan import compute_dtype

#: blur scales of the type evidence, in median nuclear radii
EVIDENCE_RADII = (0.15, 0.3, 0.52)
_DENSITY_FLOOR = 0.03
_LOG_POSTERIOR_FLOOR = -8.0
#: log weight of all others inside a nucleus, whose pixels never change hands
_NUCLEUS_LOG_WEIGHT = -12.0
#: start of the noise rate, as a fraction of the density in nuclei
NOISE_FRACTION = 0.06
_SCALAR_SPEED = 5.0


@dataclass
class Batch:
    """One window with the points at which the competition is evaluated (tensors on the device of the model).

    N input molecules, P points, M candidates per point, T types per candidate.
    """

    #: (N, 2) input molecules as (y, x) in the pixels of the window, and (N,) their genes
    coords_px: Tensor
    gene: Tensor
    #: fraction of all molecules that the input holds
    input_fraction: float
    #: (3, H, W) nuclear mask, distance to the nearest nucleus and to the border between nearest nuclei
    context: Tensor
    #: (P,) flat pixel of each point
    pixel: Tensor
    #: (P, M) signed distance to the nucleus in median radii (inf = no such candidate), distance to its centre in its own radii
    signed_radii: Tensor
    centre_radii: Tensor
    #: (P, M) log of the candidate's radius and density against the median
    log_radius: Tensor
    log_density: Tensor
    #: (P, M, T) leading types of each candidate and their posterior
    type_index: Tensor
    type_weight: Tensor
    #: (P,) candidate in whose nucleus the point lies, -1 = none
    own: Tensor

    def split(self, n_points: int) -> Iterator[Batch]:
        """The same window with at most `n_points` points at a time."""
        by_point = ("pixel", "signed_radii", "centre_radii", "log_radius", "log_density", "type_index", "type_weight", "own")
        for start in range(0, max(len(self.pixel), 1), n_points):
            part = slice(start, start + n_points)
            yield dataclasses.replace(self, **{name: getattr(self, name)[part] for name in by_point})

    def oriented(self, *, flip_y: bool, flip_x: bool, transpose: bool) -> Batch:
        """The same window mirrored and turned; points keep their order."""
        height, width = self.context.shape[1:]
        y, x = self.pixel // width, self.pixel % width
        coords_y, coords_x = self.coords_px.unbind(1)
        context = self.context
        if flip_y:
            # Whole pixels are mirrored, so that a molecule on a pixel's edge stays in its pixel.
            y, coords_y, context = height - 1 - y, height - 1 - coords_y.floor() + coords_y.frac(), context.flip(1)
        if flip_x:
            x, coords_x, context = width - 1 - x, width - 1 - coords_x.floor() + coords_x.frac(), context.flip(2)
        if transpose:
            y, x, coords_y, coords_x, context = x, y, coords_x, coords_y, context.transpose(1, 2).contiguous()
            width = height
        return dataclasses.replace(self, coords_px=torch.stack([coords_y, coords_x], 1), context=context, pixel=y * width + x)


class CompetitionModel(nn.Module):
    """What is trained on a tissue: the U-Net and, where cells do not compete by claims, what makes them compete.

    That is the scorer, the ratio of densities in cytoplasm and nucleus and the rate of noise, trained together.

    Parameters
    ----------
    n_genes, n_types
        G and K.
    parameters
        Widths and switches.
    radius_px
        Median nuclear radius, the unit of length.
    density
        Typical molecules per pixel inside nuclei.
    noise_rate
        Start of the rate of noise, in molecules per pixel; None takes a fixed fraction of `density`.
    log_profiles
        (K, G), to initialise the gene embedding.
    """

    def __init__(
        self,
        n_genes: int,
        n_types: int,
        parameters: Parameters,
        *,
        radius_px: float,
        density: float,
        noise_rate: float | None = None,
        log_profiles: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.radius_px, self.density = float(radius_px), float(density)
        self.reach_radii = parameters.reach_radii
        self.raster_sigma_px = parameters.raster_radii * self.radius_px
        extra = 0
        self.network: SplatUNet | None = None
        if parameters.use_network:
            self.network = SplatUNet(
                n_genes,
                n_types,
                n_embedding=parameters.n_embedding,
                n_features=0 if parameters.use_claims else parameters.n_features,
                channels=parameters.channels,
                density_sigmas_px=(0.0, 0.25 * radius_px, 0.5 * radius_px),
                log_profiles=log_profiles,
            )
            self.network.compute_dtype = compute_dtype(parameters.precision)
            extra = parameters.n_features + 1
        self.scorer: CandidateScorer | None = None
        if not parameters.use_claims:
            n_scales = len(EVIDENCE_RADII)
            self.scorer = CandidateScorer(6 + 2 * n_scales + extra, 2 + n_scales + extra, n_hidden=parameters.n_hidden)
        elif self.network is not None:
            return
        # With claims and without a network there is nothing to train, but optimizers want something.
        self.log_cytoplasm = nn.Parameter(torch.zeros(()))
        self.log_noise = nn.Parameter(torch.log(torch.tensor(NOISE_FRACTION * self.density if noise_rate is None else noise_rate)))

    @property
    def noise_rate(self) -> Tensor:
        """Molecules per pixel that belong to no cell."""
        return self.log_noise.exp()

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Weights, and the two physical scalars, which move faster."""
        scalars = [p for name, p in self.named_parameters() if name in ("log_cytoplasm", "log_noise")]
        chosen = {id(p) for p in scalars}
        weights = [p for p in self.parameters() if id(p) not in chosen]
        groups = [{"params": weights, "peak_lr": learning_rate}, {"params": scalars, "peak_lr": _SCALAR_SPEED * learning_rate}]
        return [g for g in groups if g["params"]]

    def forward(self, batch: Batch, log_profiles: Tensor, log_prior: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Log weights of the candidates and of the background at the points.

        Parameters
        ----------
        batch
            One window.
        log_profiles
            (G, K) log probability of each gene in each type.
        log_prior
            (K,) log frequency of the types.

        Returns
        -------
        (P, M + 1) normalised log weights, background last, None without a scorer, and the network's (P, K + 1) log class probabilities.
        """
        if self.scorer is None:
            return None, self._classes(self._output(batch), batch)
        return self._score(batch, *self._maps(batch, log_profiles), log_prior)

    @torch.no_grad()
    def log_weights(self, batch: Batch, log_profiles: Tensor, log_prior: Tensor, *, chunk: int) -> Tensor:
        """The first result of :meth:`forward`, `chunk` points at a time."""
        maps = self._maps(batch, log_profiles)
        # At least one part, so that no points give an empty result.
        return torch.cat([self._score(part, *maps, log_prior)[0] for part in batch.split(chunk)])

    def _score(self, batch: Batch, blurred: Tensor, output: Tensor | None, log_prior: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.scorer is None:
            raise InputError("The model has no scorer; build it with use_claims=False.")
        posterior, density = self._evidence(batch, blurred, log_prior)
        n_candidates = batch.signed_radii.shape[1]
        signed = batch.signed_radii.clamp(-2, 6)
        # The best rival of the nearest candidate is the second; of all others, the nearest.
        best_other = torch.cat([signed[:, 1:2], signed[:, :1].expand(-1, n_candidates - 1)], 1)
        evidence = _at_types(posterior, batch).clamp(min=_LOG_POSTERIOR_FLOOR)
        per_candidate = [
            signed,
            batch.centre_radii.clamp(0, 6),
            batch.log_radius,
            (best_other - signed).clamp(-4, 4),
            torch.softmax(-signed, 1),
            batch.log_density,
        ]
        candidate = [torch.stack(per_candidate, -1), evidence, density[:, None].expand(-1, n_candidates, -1)]
        background = [signed[:, :1], (best_other - signed)[:, :1].clamp(0, 4), density]
        bias_candidate, bias_background = -1.5 * signed, torch.full_like(signed[:, :1], -1.5)
        classes = self._classes(output, batch)
        if output is not None and classes is not None:
            features = output[len(log_prior) + 1 :, batch.pixel].T
            floored = classes.clamp(min=_LOG_POSTERIOR_FLOOR)
            own_type = _at_types(floored[:, 1:].unsqueeze(1), batch)
            candidate += [own_type, features[:, None].expand(-1, n_candidates, -1)]
            background += [floored[:, :1], features]
            bias_candidate = bias_candidate + 0.5 * own_type[..., 0]
            bias_background = bias_background + 0.5 * floored[:, :1]
        scores = self.scorer(torch.cat(candidate, -1), torch.cat(background, -1)) + torch.cat([bias_candidate, bias_background], 1)
        valid = torch.cat([batch.signed_radii <= self.reach_radii, torch.ones_like(batch.own[:, None], dtype=torch.bool)], 1)
        scores = scores.masked_fill(~valid, -math.inf)
        slot = torch.arange(n_candidates + 1, device=scores.device)
        fixed = torch.where(slot == batch.own[:, None], 0.0, _NUCLEUS_LOG_WEIGHT).to(scores)
        return torch.log_softmax(torch.where((batch.own >= 0)[:, None], fixed, scores), 1), classes

    def _maps(self, batch: Batch, log_profiles: Tensor) -> tuple[Tensor, Tensor | None]:
        """(S, K + 1, H * W) blurred log profiles and counts of the input, and the network's (channels, H * W) output."""
        with torch.no_grad():
            rows = torch.cat([log_profiles, log_profiles.new_ones(len(log_profiles), 1)], 1)
            raw = splat(batch.coords_px, batch.gene, rows, batch.context.shape[1:], sigma_px=0.0)
            blurred = torch.stack([gaussian_blur(raw, r * self.radius_px).flatten(1) for r in EVIDENCE_RADII])
        return blurred, self._output(batch)

    def _output(self, batch: Batch) -> Tensor | None:
        """(channels, H * W) output of the network."""
        if self.network is None:
            return None
        return torch.cat(self.network(self.raster(batch), batch.context[None]), 1)[0].flatten(1)

    def _classes(self, output: Tensor | None, batch: Batch) -> Tensor | None:
        """(P, K + 1) log class probabilities at the points."""
        if output is None or self.network is None:
            return None
        return torch.log_softmax(output[: self.network.n_types + 1, batch.pixel].T, 1)

    def raster(self, batch: Batch) -> Tensor:
        """(1, D + 1, H, W) input of the network."""
        if self.network is None:
            raise InputError("The model has no network; build it with use_network=True.")
        embedded = splat(batch.coords_px, batch.gene, self.network.gene_embedding(), batch.context.shape[1:], sigma_px=self.raster_sigma_px)
        return embedded[None] / (batch.input_fraction * self.density)

    @torch.no_grad()
    def _evidence(self, batch: Batch, blurred: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
        """(P, S, K) log posterior of each type and (P, S) log density at S blur scales of the input molecules."""
        posterior, density = [], []
        for radii, scale in zip(EVIDENCE_RADII, blurred, strict=True):
            at_points = scale[:, batch.pixel].T
            # A kernel of peak 1 turns the blur into a sum over an effective number of molecules.
            n_effective = 2 * math.pi * (radii * self.radius_px) ** 2
            posterior.append(torch.log_softmax(at_points[:, :-1] * n_effective + log_prior, 1))
            relative = at_points[:, -1].clamp(min=0) / (batch.input_fraction * self.density)
            density.append(torch.log(relative + _DENSITY_FLOOR))
        return torch.stack(posterior, 1), torch.stack(density, 1)


def _at_types(values: Tensor, batch: Batch) -> Tensor:
    """(P, S, K) values, averaged over the types of each candidate -> (P, M, S)."""
    n_points, n_scales, _ = values.shape
    index = batch.type_index.flatten(1)[:, None].expand(-1, n_scales, -1)
    picked = values.gather(2, index).view(n_points, n_scales, *batch.type_index.shape[1:])
    return (picked * batch.type_weight[:, None]).sum(-1).transpose(1, 2)
