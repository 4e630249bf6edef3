"""Every knob of the published self-training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from sjg.core import InputError
from sjg.labels import PublishedRule
from sjg.training._knobs import Knobs

PublishedAttribution = Literal["closed_form", "optimize", "optimize_pairs", "gradient", "none"]


@dataclass(frozen=True)
class PublishedParameters(Knobs):
    """Settings of ``preset="published"``: network, schedule, attribution and label update of the paper.

    The paper trains a network of 31 M parameters for 200 epochs at a learning rate of 1e-4 on a GPU. The preset keeps its schedule and
    takes a network of 0.1 M parameters at a higher rate. ``parameters={"channels": (64, 128, 256, 512, 1024), "learning_rate": 1e-4}``
    restores the size; ``{"attribution": "optimize"}`` and ``{"attribution": "optimize_pairs", "attribution_grid_px": 8,
    "attribution_draws": 8}`` the attribution of the first and the second of the authors' two code bases.

    Parameters
    ----------
    n_rounds
        Epochs; the first one only warms up.
    batch_size, patch_size_px
        Patches per step and their side; patches lie side by side.
    learning_rate
        Of Adam, constant.
    channels, n_embedding
        Channels per level of the U-Net and width of the gene embedding in front of it.
    raster_radii
        Blur of the density of each gene in median nuclear radii; channels given as densities are not blurred again.
    tile_size_px
        Side of a tile when labels are updated.
    attribution
        What the gate asks: ``"closed_form"`` CID; ``"optimize"``, CID by descent on all genes together; ``"optimize_pairs"``, CID by
        descent on one gene at a time; ``"gradient"``; or ``"none"``, no gate.
    attribution_epoch, attribution_interval
        Epoch, from 0, of the first attribution, and epochs between two of them; the gate uses the last one.
    attribution_types, attribution_genes
        How many types and genes, the most abundant first; 0 = all. Types without attribution are not held back.
    attribution_chunk
        Types that are computed together.
    attribution_steps, attribution_lr, attribution_draws, information_weight, attribution_budget
        See `n_steps`, `lr`, `n_draws`, `information_weight` and `budget` of :func:`sjg.attribution.optimize`.
    attribution_grid_px
        Side of the cells that share their noise.
    n_probes
        Random probes of the closed form, also for the gene importance.
    n_importance_patches
        Patches per type for the gene importance.
    territory_px, confidence_threshold, confidence_window_px, attribution_gate, attribution_fraction, min_votes, max_gap_px
        See :class:`sjg.labels.PublishedRule`.
    checkpoint_interval
        Epochs between two checkpoints.
    """

    n_rounds: int = 200
    batch_size: int = 16
    patch_size_px: int = 128
    learning_rate: float = 1e-3
    channels: tuple[int, ...] = (16, 32, 48)
    n_embedding: int = 12
    raster_radii: float = 0.3
    tile_size_px: int = 256
    attribution: PublishedAttribution = "closed_form"
    attribution_epoch: int = 20
    attribution_interval: int = 20
    attribution_types: int = 0
    attribution_genes: int = 100
    attribution_chunk: int = 8
    attribution_steps: int = 20
    attribution_lr: float = 0.1
    attribution_draws: int = 4
    information_weight: float = 0.01
    attribution_budget: float = 1.2
    attribution_grid_px: int = 1
    n_probes: int = 4
    n_importance_patches: int = 8
    territory_px: float = 3.0
    confidence_threshold: float = 0.5
    confidence_window_px: int = 3
    attribution_gate: Literal["dominant", "top_fraction"] = "dominant"
    attribution_fraction: float = 0.1
    min_votes: int = 2
    max_gap_px: int = 2
    checkpoint_interval: int = 10

    def __post_init__(self) -> None:
        if self.attribution not in get_args(PublishedAttribution):
            raise InputError(f"attribution={self.attribution!r}; choose one of {', '.join(get_args(PublishedAttribution))}.")
        at_least_one: tuple[str, ...] = ("n_rounds", "batch_size", "patch_size_px", "tile_size_px", "n_embedding", "checkpoint_interval")
        at_least_one += ("attribution_interval", "attribution_chunk", "attribution_steps", "attribution_draws", "attribution_grid_px")
        at_least_one += ("n_probes", "n_importance_patches")
        for name in at_least_one:
            self._check_whole(name, 1)
        for name in ("attribution_epoch", "attribution_types", "attribution_genes"):
            self._check_whole(name, 0)
        for name in ("learning_rate", "attribution_lr", "information_weight", "raster_radii"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name}={value!r}; give a finite number > 0.")
        if not self.attribution_budget > 1:
            raise InputError(f"attribution_budget={self.attribution_budget!r}; give a factor > 1.")
        if self.patch_size_px % self.attribution_grid_px:
            raise InputError(f"attribution_grid_px={self.attribution_grid_px} must divide patch_size_px={self.patch_size_px}.")
        self.rule()

    def rule(self) -> PublishedRule:
        """The knobs of the label update."""
        return PublishedRule(
            territory_px=self.territory_px,
            confidence_threshold=self.confidence_threshold,
            confidence_window_px=self.confidence_window_px,
            attribution_gate=self.attribution_gate,
            attribution_fraction=self.attribution_fraction,
            min_votes=self.min_votes,
            max_gap_px=self.max_gap_px,
        )

    def _check_whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}={value!r}; give a whole number >= {least}.")
