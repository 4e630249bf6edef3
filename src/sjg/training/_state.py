"""What is known of the cells: types, densities, profiles; re-estimated between rounds (the EM part)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sjg.core import CellTypes, Molecules, parts, release
from sjg.expression import as_probabilities
from sjg.training._nuclei import Nuclei
from sjg.training._parameters import Parameters
from sjg.training._plan import POINTS_AT_ONCE

N_LEADING_TYPES = 4
#: pixels of typical density that a cell's own density is shrunk by
_DENSITY_SHRINKAGE_PX = 30.0
#: counts that the composition of all molecules is worth when that of noise is re-estimated
_AMBIENT_STRENGTH = 300.0
#: shares of false calls in the noise, which fall on all genes alike, of which the likelihood is taken, finer towards none, and logs of what is expected:
#: Beta(1, 2), mean 1/3, times the distance of these shares
_FALSE_SHARES = tuple(((k + 0.5) / 32) ** 2 for k in range(32))
_LOG_FALSE_PRIOR = tuple(math.log(1 - u) + math.log(u) / 2 for u in _FALSE_SHARES)
#: molecules of a gene in the noise, at the most, as a multiple of those that there are
_MOST_IN_NOISE = 1.5


@dataclass
class CellState:
    """Estimates for n cells, K types, G genes (tensors on one device).

    Parameters
    ----------
    posterior
        (n, K) probability of each type.
    initial_logit
        (n, K) log weight of the start types.
    density
        (n,) molecules per pixel of the cell.
    profiles, prior_profiles
        (K, G) probability of each gene in each type: current, and the reference that it is shrunk to.
    ambient, prior_ambient
        (G,) composition of molecules that belong to no cell: current, and that of all molecules.
    """

    posterior: Tensor
    initial_logit: Tensor
    density: Tensor
    profiles: Tensor
    prior_profiles: Tensor
    ambient: Tensor
    prior_ambient: Tensor

    # A state is replaced as a whole, never changed, so what follows from it is computed once: at 100,000 cells that is what
    # keeps the cost of a tile from growing with the tissue.
    @cached_property
    def log_profiles(self) -> Tensor:
        """(G, K)."""
        return self.profiles.log().T

    @cached_property
    def log_prior(self) -> Tensor:
        """(K,) log frequency of the types."""
        frequency = self.posterior.mean(0) + 0.01 / self.posterior.shape[1]
        return torch.log(frequency / frequency.sum())

    @cached_property
    def median_density(self) -> float:
        """Molecules per pixel of a typical cell."""
        return float(self.density.median())

    @cached_property
    def false_call_ratio(self) -> Tensor:
        """(G, U) composition of noise for each share of false calls, relative to `ambient`."""
        share = torch.tensor(_FALSE_SHARES, device=self.ambient.device)
        return self._noise(share) / self.ambient[:, None]

    def with_false_calls(self, evidence: Evidence) -> CellState:
        """The same cells amid noise with the share of false calls that is to be expected after a pass over the tissue."""
        prior, share = (torch.tensor(values, device=self.ambient.device) for values in (_LOG_FALSE_PRIOR, _FALSE_SHARES))
        expected = (torch.softmax(evidence.false_calls + prior, 0) * share).sum()
        # of no gene can there be much more in the noise than there is, of which the pass gives a first estimate
        noise = evidence.noise.sum()
        most = _MOST_IN_NOISE * self.prior_ambient / (noise / (evidence.count.sum() + noise).clamp(min=1.0))
        return dataclasses.replace(self, ambient=torch.minimum(self._noise(expected[None])[:, 0], most))

    def _noise(self, share: Tensor) -> Tensor:
        """(G, U) part molecules that left their cell, which are as all molecules, part false calls, on all genes alike."""
        return (1 - share) * self.prior_ambient[:, None] + share / len(self.ambient)

    def of(self, cells: NDArray[np.int64]) -> CellState:
        """Estimates of some of the cells; what is said of all of them stays so."""
        rows = torch.as_tensor(cells, device=self.density.device)
        part = dataclasses.replace(self, posterior=self.posterior[rows], initial_logit=self.initial_logit[rows], density=self.density[rows])
        part.log_prior, part.median_density = self.log_prior, self.median_density
        return part

    def leading_types(self) -> tuple[Tensor, Tensor]:
        """(n, T) indices and renormalised weights of the T most probable types of each cell."""
        return self._leading_types

    @cached_property
    def _leading_types(self) -> tuple[Tensor, Tensor]:
        weight, index = self.posterior.topk(min(N_LEADING_TYPES, self.posterior.shape[1]), dim=1)
        return index, weight / weight.sum(1, keepdim=True)

    def tensors(self) -> dict[str, Tensor]:
        """All fields by name, for checkpoints."""
        return {k: getattr(self, k) for k in self.__dataclass_fields__}


@dataclass
class Evidence:
    """Sufficient statistics gathered from molecules that the network had not seen."""

    #: (n, K) sum of weight * log profile; (n,) weights; (n,) area in pixels times held-out fraction; (n,) expected passes
    type_logit: Tensor
    count: Tensor
    area: Tensor
    exposure: Tensor
    #: (K, G) weights by type; (G,) weights of noise
    profile: Tensor
    noise: Tensor
    #: (U,) log likelihood of each share of false calls in the noise, against the composition that the state has
    false_calls: Tensor

    @classmethod
    def empty(cls, state: CellState) -> Evidence:
        """No evidence yet."""
        n = len(state.density)
        zero = state.density.new_zeros
        shapes = [state.posterior.shape, (n,), (n,), (n,), state.profiles.shape, state.ambient.shape, (len(_FALSE_SHARES),)]
        return cls(*(zero(shape) for shape in shapes))

    def add_molecules(self, state: CellState, cell: Tensor, gene: Tensor, weight: Tensor, noise: Tensor) -> None:
        """Add molecules: (P, M) candidate cells, (P,) genes, (P, M) weights of the candidates, (P,) weight of noise."""
        self.add_noise(state, gene, noise)
        # each candidate of a molecule has a row of K numbers: a part of the molecules at a time
        for rows in zip(*(part.split(POINTS_AT_ONCE) for part in (cell, gene, weight)), strict=True):
            self._add_to_cells(state, *rows)

    def add_noise(self, state: CellState, gene: Tensor, weight: Tensor) -> None:
        """Add what (P,) genes of molecules, noise with some weight, say of noise alone."""
        self.noise.index_add_(0, gene, weight)
        for genes, weights in zip(gene.split(POINTS_AT_ONCE), weight.split(POINTS_AT_ONCE), strict=True):
            self.false_calls += torch.log1p(weights[:, None] * (state.false_call_ratio[genes] - 1)).sum(0)

    def _add_to_cells(self, state: CellState, cell: Tensor, gene: Tensor, weight: Tensor) -> None:
        n_candidates = cell.shape[1]
        flat_cell, flat_weight = cell.reshape(-1), weight.reshape(-1)
        flat_gene = gene.repeat_interleave(n_candidates)
        keep = flat_weight > 1e-3
        flat_cell, flat_weight, flat_gene = flat_cell[keep], flat_weight[keep], flat_gene[keep]
        self.type_logit.index_add_(0, flat_cell, flat_weight[:, None] * state.log_profiles[flat_gene])
        self.count.index_add_(0, flat_cell, flat_weight)
        index, posterior = state.leading_types()
        n_genes = state.profiles.shape[1]
        position = index[flat_cell] * n_genes + flat_gene[:, None]
        self.profile.view(-1).index_add_(0, position.reshape(-1), (flat_weight[:, None] * posterior[flat_cell]).reshape(-1))

    def add(self, part: Evidence, cells: NDArray[np.int64]) -> None:
        """Add what was gathered for some of the cells, numbered from 0 in `part`."""
        rows = torch.as_tensor(cells, device=self.noise.device)
        for name in ("type_logit", "count", "area", "exposure"):
            getattr(self, name).index_add_(0, rows, getattr(part, name))
        self.profile += part.profile
        self.noise += part.noise
        self.false_calls += part.false_calls


def initial_state(
    molecules: Molecules, nucleus_of: np.ndarray, nuclei: Nuclei, types: CellTypes, parameters: Parameters, *, device: torch.device
) -> CellState:
    """State before the first round, from the molecules inside nuclei.

    Parameters
    ----------
    molecules
        N molecules.
    nucleus_of
        (N,) nucleus of each molecule, 0 = none.
    nuclei
        n nuclei.
    types
        Start types.
    parameters
        Settings.
    device
        Where the tensors live.
    """
    n, n_types, n_genes = len(nuclei), len(types.names), len(molecules.gene_names)
    confidence = np.clip(np.asarray(types.confidence, float), 0.0, 0.95)[:, None]
    known = types.initial >= 0
    onehot = np.zeros((n, n_types))
    onehot[np.flatnonzero(known), types.initial[known]] = 1
    posterior = np.where(known[:, None], confidence * onehot + (1 - confidence) / n_types, 1 / n_types)
    total, count, by_type = np.zeros(n_genes), np.zeros(n), np.zeros(n_types * n_genes)
    for rows in parts(len(molecules)):
        gene, nucleus = molecules.gene[rows], nucleus_of[rows]
        total += np.bincount(gene, minlength=n_genes)
        gene, nucleus = gene[nucleus > 0], nucleus[nucleus > 0] - 1
        count += np.bincount(nucleus, minlength=n)
        typed = known[nucleus]
        by_type += np.bincount(types.initial[nucleus[typed]].astype(np.int64) * n_genes + gene[typed], minlength=len(by_type))
        release(molecules.gene, nucleus_of)
    ambient = (total + 0.5) / (total + 0.5).sum()
    if types.profiles is None:
        prior = by_type.reshape(n_types, n_genes) + 20 * ambient
    else:
        prior = np.asarray(types.profiles, float)
    prior = as_probabilities(prior, total)
    area = np.pi * nuclei.radius_px**2
    mean = max(count.sum(), 1) / area.sum()
    shrinkage = 5 * _DENSITY_SHRINKAGE_PX

    def tensor(a: Any) -> Tensor:
        return torch.as_tensor(np.asarray(a), dtype=torch.float32, device=device)

    prior_t = tensor(prior)
    return CellState(
        posterior=tensor(posterior),
        initial_logit=tensor(parameters.initial_type_weight * onehot),
        density=tensor((count + mean * shrinkage) / (area + shrinkage)),
        profiles=prior_t,
        prior_profiles=prior_t.clone(),
        ambient=tensor(ambient),
        prior_ambient=tensor(ambient),
    )


def revise(state: CellState, evidence: Evidence, parameters: Parameters) -> CellState:
    """The M step: densities, noise, types and profiles from the evidence of a round."""
    if parameters.revise_types:
        logit = evidence.type_logit / evidence.exposure.clamp(min=1.0)[:, None]
        seen = evidence.exposure > 0
        revised = torch.softmax(parameters.temper * logit + state.log_prior + state.initial_logit, 1)
        posterior = torch.where(seen[:, None], revised, state.posterior)
    else:
        posterior = state.posterior
    profiles = state.profiles
    if parameters.revise_profiles:
        counts = evidence.profile + parameters.profile_strength * state.prior_profiles
        profiles = counts / counts.sum(1, keepdim=True)
    if parameters.use_claims:
        # The claim network was trained with the densities of nuclei and the composition of all molecules: the start values.
        return dataclasses.replace(state, posterior=posterior, profiles=profiles)
    mean = evidence.count.sum() / evidence.area.sum().clamp(min=1e-6)
    shrinkage = _DENSITY_SHRINKAGE_PX
    density = (evidence.count + mean * shrinkage) / (evidence.area + shrinkage)
    density = torch.where(evidence.area > 0, density, state.density).clamp(min=1e-3 * float(mean))
    ambient = evidence.noise + _AMBIENT_STRENGTH * state.prior_ambient
    return dataclasses.replace(state, posterior=posterior, profiles=profiles, density=density, ambient=ambient / ambient.sum())
