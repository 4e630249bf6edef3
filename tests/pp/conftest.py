"""Planted nuclei and types."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage


def _nuclei(shape, diameter_px, *, seed=0, touching=False, noise=0.02):
    """Image in about 0..1 and the labels behind it: ellipses of different brightness, apart or in touching pairs."""
    rng = np.random.default_rng(seed)
    height, width = shape
    pitch = 2.6 * diameter_px if touching else 1.9 * diameter_px
    y, x = np.mgrid[:height, :width] + 0.5
    image, labels = np.zeros(shape), np.zeros(shape, dtype=np.int32)
    for row in np.arange(pitch / 2 + 2, height - pitch / 2, pitch):
        for column in np.arange(pitch / 2 + 2, width - pitch / 2, pitch):
            centre = np.array([row, column]) + rng.uniform(-0.1, 0.1, 2) * diameter_px
            angle = rng.uniform(0, np.pi)
            along = np.array([np.sin(angle), np.cos(angle)])
            centres = (centre - 0.48 * diameter_px * along, centre + 0.48 * diameter_px * along) if touching else (centre,)
            for middle in centres:
                aspect = 1.0 if touching else rng.uniform(0.8, 1.25)
                dy, dx = y - middle[0], x - middle[1]
                u, v = dy * along[0] + dx * along[1], -dy * along[1] + dx * along[0]
                inside = ((u / aspect) ** 2 + (v * aspect) ** 2 <= (diameter_px / 2) ** 2) & (labels == 0)
                labels[inside] = labels.max() + 1
                image[inside] = rng.uniform(0.5, 1.0)
    image = ndimage.gaussian_filter(image, diameter_px / 14)
    return image + 0.1 + noise * rng.standard_normal(shape), labels


@pytest.fixture(scope="session")
def planted_nuclei():
    """Function that plants nuclei."""
    return _nuclei


def _types(n_nuclei, n_types, n_transcripts, *, n_genes=60, seed=0, efficiency_sd=0.0, noise=0.08, contrast=0.15, frequencies=None):
    """Counts, true codes, profiles of the reference, and codes by the Bayes rule that knows everything."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(contrast, size=(n_types, n_genes)) + 0.002
    in_situ = profiles * np.exp(rng.normal(0, efficiency_sd, n_genes))
    in_situ /= in_situ.sum(axis=1, keepdims=True)
    composition = (1 - noise) * in_situ + noise * in_situ.mean(axis=0)
    truth = rng.choice(n_types, size=n_nuclei, p=frequencies)
    totals = rng.poisson(rng.gamma(4, n_transcripts / 4, n_nuclei))
    counts = np.stack([rng.multinomial(total, composition[code]) for total, code in zip(totals, truth, strict=True)])
    prior = np.zeros(n_types) if frequencies is None else np.log(frequencies)
    return counts, truth, profiles, (counts @ np.log(composition).T + prior).argmax(axis=1)


@pytest.fixture(scope="session")
def planted_types():
    """Function that plants types."""
    return _types
