"""The nuclear stain of simulated tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sjg.datasets._smooth_noise import smooth_noise


def draw_dapi(rng: np.random.Generator, nuclei: NDArray[np.int32], *, pixel_size_um: float, blur_um: float = 0.35) -> NDArray[np.uint16]:
    """A DAPI image: nuclei of varied brightness with chromatin texture, out-of-focus haze, uneven light, optical blur, shot and read noise.

    Parameters
    ----------
    rng
        Source of brightness, texture and noise.
    nuclei
        (height, width) int32 labels.
    pixel_size_um
        Side of a pixel in micrometres.
    blur_um
        Standard deviation of the optical blur.

    Returns
    -------
    (height, width) uint16.
    """
    px_per_um = 1 / pixel_size_um
    shape = nuclei.shape
    brightness = np.exp(0.28 * rng.standard_normal(int(nuclei.max(initial=0)) + 1))
    brightness[0] = 0
    texture = 0.16 * smooth_noise(rng, shape, max(1.4 * px_per_um, 1)) + 0.08 * smooth_noise(rng, shape, max(0.7 * px_per_um, 1))
    # chromocentres: the bright spots of mouse nuclei
    spots = np.clip(smooth_noise(rng, shape, max(1.1 * px_per_um, 1)) - 1.6, 0, 1.2)
    stain = brightness[nuclei] * np.clip(1 + texture + 0.9 * spots, 0.2, None)
    # the rim is thinner than the centre of a nucleus
    depth = ndimage.distance_transform_edt(nuclei > 0) * pixel_size_um
    stain *= np.minimum(1, 0.62 + 0.25 * depth)
    haze = ndimage.gaussian_filter(stain, 4 * px_per_um, mode="nearest")
    light = 1 + 0.08 * smooth_noise(rng, shape, max(150 * px_per_um, 1))
    photons = light * (620 * ndimage.gaussian_filter(stain, blur_um * px_per_um, mode="nearest") + 130 * haze + 45)
    # steps of 1/64 photon hide the last bit of the filters, which differs between platforms, from the Poisson sampler
    shot = rng.poisson(np.rint(np.clip(photons, 0, None) * 64) / 64)
    counts = 100 + 3.0 * shot + 6.0 * rng.standard_normal(shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
