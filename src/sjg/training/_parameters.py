"""Every knob of a run, in one frozen dataclass, and the presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sjg.core import InputError
from sjg.training._knobs import Knobs
from sjg.training._published_parameters import PublishedParameters

Gate = Literal["none", "dominant", "contrast", "top_fraction", "evidence"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Parameters(Knobs):
    """Settings of the self-training; lengths in working pixels or in units of the median nuclear radius.

    Parameters
    ----------
    n_rounds
        Rounds of self-training; types, profiles and densities are re-estimated between them.
    settled_loss
        A round ends early when its loss, in the mean of 20 steps, is less than this many nats below that of the 20 before; 0 = after all its
        steps. Without claims rounds never end early, and the loss of a whole round is compared with that of the one before.
    settled_cells
        Training ends after a round whose loss has settled so and in which fewer than this fraction of the cells that it met changed their
        type; 0 = after all rounds.
    steps_per_round
        Steps of gradient descent in a round.
    patches_per_step
        Patches whose gradients are averaged in a step (small tissue is seen several times, large tissue in part). With several
        processes they are shared out, so that at least as many as processes are worth while.
    patch_size_px, halo_px
        Side of a training patch and the margin around it that only feeds the network.
    tile_size_px
        Side of a tile when the whole tissue is predicted.
    use_claims
        Cells compete by the claims of the network that was trained on simulated tissue (:class:`sjg.networks.ClaimNet`); the network
        of the run learns types and gives gene importance. False trains the competition on this tissue alone, by held-out molecules.
    n_orientations
        Turned and mirrored views of a cell's surroundings whose claims are averaged when the tissue is predicted, at most 8.
    n_candidates
        Nearest nuclei that compete for a point.
    reach_radii
        A cell ends at this distance from its nucleus, in median nuclear radii.
    points_per_patch
        Pixels sampled in a patch for the integral of the likelihood.
    input_fraction
        Range of the fraction of molecules that the network sees; the rest is predicted.
    held_out
        False trains on the molecules the network sees (for the ablation; it collapses).
    augment
        Mirror and turn the patches at random.
    use_network
        False leaves the U-Net out and scores candidates by their geometry and local evidence alone.
    use_context
        False hides the nuclei from the network, as in the paper.
    raster_radii
        Blur of the network's input, in median nuclear radii.
    channels
        Channels per level of the U-Net.
    n_embedding, n_features, n_hidden
        Widths of the gene embedding, of the features handed to the scorer and of the scorer.
    precision
        Of the convolutions: ``"float32"``, ``"bfloat16"`` (weights and all else stay in float32), or ``"auto"``: bfloat16 on a GPU whose tensor
        units compute it, else float32. Gene importance is always computed in float32.
    learning_rate
        Peak learning rate of Adam; a cosine takes it to 2 %.
    nucleus_weight, pseudo_weight
        Weights of the cross entropy on fixed labels (nuclei) and on confident dynamic labels.
    pseudo_confidence
        A pixel's dynamic label is known above this posterior, otherwise unknown and ignored.
    temper
        Weight of a molecule in a cell's type posterior; below 1 because counts vary more than multinomially.
    initial_type_weight
        Nats by which a cell's initial type is favoured when types are revised.
    revise_types
        False keeps the initial types.
    revise_profiles
        Profiles of the types are re-estimated; with claims, only where no reference gave them.
    profile_strength
        Counts per type that the reference is worth when profiles are re-estimated.
    calibrate_reference
        Profiles of a reference are fitted to what the assay shows (efficiencies of genes, deviations of types) as far as the tissue tells,
        for start types and for the competition; False takes them as they are (start types still reckon with efficiencies).
    own_profiles
        Molecules are assigned by each cell's own expression, shrunk to its type; False uses the type alone.
    false_calls
        With claims, the share of the noise that falls on all genes alike, as false calls do, is estimated; the rest of it is composed as
        all molecules. False takes all of it to be composed so.
    n_folds
        Molecules are assigned by networks that have not seen them, in this many folds.
    n_importance_patches, n_probes
        Patches and random probes for the gene importance.
    attribution_gate
        Which confident pixels may become dynamic labels: ``"none"`` = all; ``"dominant"``, ``"contrast"``, ``"top_fraction"`` and ``"evidence"`` = only those at which the attribution speaks for the type, on a random part of the patches of each round. The gate is off because it brings
        nothing that could be measured, see :doc:`/attribution`.
    attribution_epoch
        Round, from 0, from which the gate is at work.
    """

    n_rounds: int = 2
    settled_cells: float = 0.01
    settled_loss: float = 0.05
    steps_per_round: int = 100
    patches_per_step: int = 1
    patch_size_px: int = 192
    halo_px: int = 24
    tile_size_px: int = 384
    use_claims: bool = True
    n_orientations: int = 4
    n_candidates: int = 6
    reach_radii: float = 4.5
    points_per_patch: int = 6000
    input_fraction: tuple[float, float] = (0.5, 0.85)
    held_out: bool = True
    augment: bool = True
    use_network: bool = True
    use_context: bool = True
    raster_radii: float = 0.15
    channels: tuple[int, ...] = (16, 32, 48)
    n_embedding: int = 12
    n_features: int = 8
    n_hidden: int = 24
    precision: Precision = "auto"
    learning_rate: float = 3e-3
    nucleus_weight: float = 0.3
    pseudo_weight: float = 0.3
    pseudo_confidence: float = 0.9
    temper: float = 0.5
    initial_type_weight: float = 1.0
    revise_types: bool = True
    revise_profiles: bool = True
    profile_strength: float = 1000.0
    calibrate_reference: bool = True
    own_profiles: bool = True
    false_calls: bool = True
    n_folds: int = 4
    n_importance_patches: int = 8
    n_probes: int = 8
    attribution_gate: Gate = "none"
    attribution_epoch: int = 1

    def __post_init__(self) -> None:
        for name, choices in (("precision", get_args(Precision)), ("attribution_gate", get_args(Gate))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name}={getattr(self, name)!r}; choose one of {', '.join(choices)}.")
        if self.attribution_gate != "none" and not 0 <= self.attribution_epoch < self.n_rounds:
            raise InputError(
                f"attribution_epoch={self.attribution_epoch} in a run of {self.n_rounds} rounds: the gate would never be at work; give a "
                f"round from 0 to {self.n_rounds - 1}, or more rounds."
            )


PRESETS: dict[str, Parameters | PublishedParameters] = {
    "default": Parameters(),
    "fast": Parameters(steps_per_round=60, n_rounds=1, n_orientations=2, channels=(8, 16, 24), n_folds=2, n_importance_patches=4),
    "published": PublishedParameters(),
}
