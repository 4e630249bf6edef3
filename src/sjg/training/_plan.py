"""How much of the tissue is worked on at once, from the memory that is free."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from sjg._logging import logger
from sjg.core import MemoryLimitError
from sjg.training._fabric import every_value
from sjg.training._parameters import Parameters, Precision
from sjg.training._workers import default_workers

#: part of the free memory that a tile may take
_SHARE = 0.5
#: no window is halved below this side
MIN_SIDE_PX = 32
_GIB = 2**30
#: how libraries say that memory ran out; oneDNN finds none for the code of a convolution
_SIGNS = ("out of memory", "can't allocate memory", "could not create a primitive")
#: what a window takes whatever its side
_FIXED_BYTES = 25 * 2**20
#: claims reach so far beyond a window, in median nuclear radii: nuclei that compete for its points, and the molecules that these see
_CELL_MARGIN_RADII = 5.5
_SEEN_MARGIN_RADII = 10.5
#: crops that the network of claims sees together
CROPS_AT_ONCE = 64
#: points that are scored together, and molecules whose evidence is added together
POINTS_AT_ONCE = 16384
#: lattice cells of a crop, the square of its side in `_crops`
CROP_AREA = 1600


@dataclass(frozen=True)
class Crowd:
    """What of a tissue decides how much memory a window of it takes.

    Parameters
    ----------
    density
        Molecules per pixel where they are dense.
    nuclei_density
        Nuclei per pixel where they are dense.
    radius_px
        Median nuclear radius.
    n_genes
        G.
    """

    density: float
    nuclei_density: float
    radius_px: float
    n_genes: int


@dataclass(frozen=True)
class Plan:
    """What is worked on at once.

    Parameters
    ----------
    patch_px
        Side of a training patch.
    tile_px
        Side of a tile of the prediction.
    n_workers
        Tiles that are judged at the same time.
    precision
        Of the convolutions, ``"float32"`` or ``"bfloat16"``.
    free_bytes
        Memory that was free on the device.
    tile_bytes, patch_bytes
        Estimated need of a tile and of a patch.
    """

    patch_px: int
    tile_px: int
    n_workers: int
    precision: Precision
    free_bytes: int
    tile_bytes: int
    patch_bytes: int

    def describe(self, device: torch.device) -> str:
        """One line for the log."""
        return (
            f"{self.free_bytes / _GIB:.1f} GiB free on {device}: patches of {self.patch_px} px ({self.patch_bytes / _GIB:.2f} GiB), "
            f"{self.n_workers} x tiles of {self.tile_px} px ({self.tile_bytes / _GIB:.2f} GiB each), {self.precision}"
        )


def make_plan(
    parameters: Parameters, *, n_types: int, crowd: Crowd, device: torch.device, free_bytes: int | None = None, n_workers: int = 1
) -> Plan:
    """The largest patches and tiles, at most those of the settings, that take up to half of the free memory.

    Parameters
    ----------
    parameters
        Sides asked for and widths of the network.
    n_types
        K.
    crowd
        Of the tissue.
    device
        Where the run computes.
    free_bytes
        Free memory; None asks the device.
    n_workers
        Tiles to judge at the same time, fewer where memory is short.

    Raises
    ------
    MemoryLimitError
        Not even the smallest patch fits.
    """
    free = free_memory(device) if free_bytes is None else free_bytes

    def need(side: int, *, training: bool) -> int:
        return window_bytes(parameters, side, n_types=n_types, crowd=crowd, training=training)

    sides = {}
    for name, asked, training in (("patch", parameters.patch_size_px, True), ("tile", parameters.tile_size_px, False)):
        side = asked
        while need(side, training=training) > _SHARE * free and side > MIN_SIDE_PX:
            side = max(side // 2, MIN_SIDE_PX)
        if need(side, training=training) > free:
            raise MemoryLimitError(
                f"A {name} of {side} px needs {need(side, training=training) / _GIB:.2f} GiB and {free / _GIB:.2f} GiB are free on {device}; "
                "free memory, lower n_embedding, channels or points_per_patch in parameters=, or choose another device."
            )
        sides[name] = side
    tile_bytes = need(sides["tile"], training=False)
    patch_bytes = need(sides["patch"], training=True)
    # tiles, and before them patches, are judged by all workers at once
    n_workers = max(1, min(n_workers, int(_SHARE * free / max(tile_bytes, patch_bytes))))
    plan = Plan(sides["patch"], sides["tile"], n_workers, choose_precision(parameters.precision, device), free, tile_bytes, patch_bytes)
    (logger.info if (plan.patch_px, plan.tile_px) == (parameters.patch_size_px, parameters.tile_size_px) else logger.warning)(
        plan.describe(device)
    )
    return plan


def plan_together(parameters: Parameters, *, n_types: int, crowd: Crowd, fabric: Fabric) -> Plan:
    """The plan of the process with the least memory, for all of them."""
    free = min(every_value(fabric, free_memory(fabric.device)))
    workers = min(every_value(fabric, default_workers(fabric.device)))
    return make_plan(parameters, n_types=n_types, crowd=crowd, device=fabric.device, free_bytes=free, n_workers=workers)


def choose_precision(asked: Precision, device: torch.device) -> Precision:
    """``"float32"`` or ``"bfloat16"``: what is asked for, ``"auto"`` by the device.

    A CPU computes in float32 unless told otherwise: there, runs are the same bit for bit.
    """
    if asked != "auto":
        return asked
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def compute_dtype(precision: Precision) -> torch.dtype:
    """Type of the numbers of a precision; float32 where none was chosen yet."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def window_bytes(parameters: Parameters, side: int, *, n_types: int, crowd: Crowd, training: bool) -> int:
    """Estimated peak memory of one window.

    First come what is known of the points (molecules and pixels) and their M candidates, the rows by type of the molecules whose evidence is
    added, and with claims the crops of the cells. To these is added what takes most of: to find the candidates of all molecules that the
    claims see, to ask the claims about the points, and the U-Net, of which training keeps what the backward pass needs. Without claims the
    evidence holds K + 1 maps at one scale each plus a copy, and a point has features and hidden units for each candidate.

    The bytes per point, crop and molecule are fitted to measurements, which `benchmarks/scale/plan.py` repeats on other settings.
    """
    n_candidates, training_factor = parameters.n_candidates, 2.5 if parameters.use_claims else 3.0
    pixels = (side + 2 * parameters.halo_px) ** 2
    molecules = side**2 * crowd.density
    pairs = n_candidates * ((parameters.points_per_patch if training else side**2) + molecules)
    channels = 3 * sum(c / 4**level for level, c in enumerate(parameters.channels))
    network = 4 * pixels * (parameters.n_embedding + 8 + channels + n_types + parameters.n_features)
    added = 12 * n_candidates * n_types * min(molecules, POINTS_AT_ONCE)
    if parameters.use_claims:
        cells = (side + 2 * _CELL_MARGIN_RADII * crowd.radius_px) ** 2 * crowd.nuclei_density
        seen = n_candidates * (side + 2 * _SEEN_MARGIN_RADII * crowd.radius_px) ** 2 * crowd.density
        crops = CROP_AREA * ((250 if training else 600) * min(cells, CROPS_AT_ONCE) + 8 * cells)
        steps = [180 * seen + 16 * cells * crowd.n_genes, 24 * seen + 105 * pairs, training_factor * network if training else 0.0]
    else:
        crops = 0.0
        maps = 20 * pixels * (n_types + 1)
        scores = training_factor * network + 400 * pairs if training else network + 110 * pairs + 400 * n_candidates * POINTS_AT_ONCE
        steps = [150 * pairs, maps + scores]
    return int(_FIXED_BYTES + 24 * pairs + added + crops + max(steps))


def free_memory(device: torch.device) -> int:
    """Bytes that a process can still take on a device: of the GPU, or of the machine and the limit of its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [limit for limit in (_machine(), _control_group()) if limit is not None]
    return min(found) if found else 4 * _GIB


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    except (AttributeError, OSError, ValueError):
        return None


def _control_group() -> int | None:
    folder = Path("/sys/fs/cgroup")
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            return max(int((folder / limit).read_text()) - int((folder / used).read_text()), 0)
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, of the GPU or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return not isinstance(error, MemoryLimitError)
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


def smaller(side: int, error: BaseException, what: str, device: torch.device) -> int:
    """Half of a side after memory ran out; says so.

    Raises
    ------
    MemoryLimitError
        It was the smallest already.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    half = side // 2
    if half < MIN_SIDE_PX:
        raise MemoryLimitError(
            f"Memory ran out on {device} with a {what} of {side} px, the smallest there is ({error}); free memory, lower channels, n_embedding or "
            "points_per_patch in parameters=, or choose another device."
        ) from error
    logger.warning("memory ran out on %s with a %s of %d px: going on with %d px", device, what, side, half)
    return half
