"""`labels.grow` on a device that is not this processor as PyTorch drives it: XLA, which compiles every operation anew.

    pip install torch==2.9.0 torch_xla==2.9.0 numpy scipy scikit-image lazy_loader      # an environment of its own
    PJRT_DEVICE=CPU PYTHONPATH=src python benchmarks/devices/xla.py

Tensors live on ``xla:0``, so that anything left on the processor is an error, and go through another compiler and other kernels than
PyTorch's. Labels and costs must be equal bit for bit. With ``PJRT_DEVICE=CUDA`` or ``TPU`` it runs where there is such a device. XLA
compiles for each shape, and the frontier has another shape in each sweep: minutes for a few hundred pixels, hence the small tissues.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
import torch_xla
from numpy.typing import NDArray
from scipy import ndimage

from sjg.labels import grow

#: height, width, nuclei, type weight, longest path
CASES = ((10, 10, 2, 0.0, None), (16, 16, 4, 2.0, 25.0), (14, 20, 5, 1.0, 6.0), (24, 24, 7, 3.0, None))


def tissue(seed: int, shape: tuple[int, int], n: int, n_types: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
    """Nuclei of up to 2 x 2 pixels, their types and a blurred log posterior with a background."""
    rng = np.random.default_rng(seed)
    nuclei = np.zeros(shape, np.int32)
    for i, place in enumerate(rng.choice(shape[0] * shape[1], n, replace=False), 1):
        y, x = divmod(int(place), shape[1])
        part = nuclei[y : y + 2, x : x + 2]
        part[part == 0] = i
    score = 4 * np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), 2) * 2 for _ in range(n_types + 1)])
    posterior = score - np.logaddexp.reduce(score, 0)
    return nuclei, rng.integers(1, n_types + 1, n + 1), posterior.astype(np.float32)


def main() -> None:
    torch_xla.experimental.eager_mode(True)
    device, equal = torch_xla.device(), True
    for seed, (height, width, n, weight, limit) in enumerate(CASES):
        case = [torch.from_numpy(a) for a in tissue(seed, (height, width), n, 4)]
        labels, cost = grow(*case, type_weight=weight, max_distance_px=limit)
        start = time.monotonic()
        found, found_cost = grow(*(a.to(device) for a in case), type_weight=weight, max_distance_px=limit)
        if found.device != device or found_cost.device != device:
            sys.exit(f"the result is on {found.device}, not on {device}")
        same = torch.equal(labels, found.cpu()) and torch.equal(cost, found_cost.cpu())
        equal &= same
        print(
            f"{device} {height} x {width}, {n} nuclei, {int((labels == 0).sum())} pixels of background: "
            f"{'equal' if same else 'DIFFERENT'} ({time.monotonic() - start:.0f} s)",
            flush=True,
        )
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
