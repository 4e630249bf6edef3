"""Fixtures and profiles that every test package shares."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from scipy import ndimage

# before anything imports matplotlib: the tests draw without a screen
os.environ.setdefault("MPLBACKEND", "Agg")

# an example may import torch or compile a kernel: its time says nothing about the code
settings.register_profile("local", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets; the test is skipped where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SJG_DATA_DIR") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder; set SJG_DATA_DIR")
    return folder


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


@pytest.fixture(scope="session")
def planted_membranes():
    """Nuclear image, membrane image and cells: the cells meet halfway between their centres and end 14 px away."""
    rng = np.random.default_rng(0)
    side, centres = 260, []
    while len(centres) < 90:
        point = rng.uniform(0, side, 2)
        if all(np.hypot(*(point - other)) > 20 for other in centres):
            centres.append(point)
    y, x = np.mgrid[:side, :side] + 0.5
    distance = np.stack([np.hypot(y - centre[0], x - centre[1]) for centre in centres])
    cells = np.where(distance.min(axis=0) < 16, distance.argmin(axis=0) + 1, 0).astype(np.int32)
    rim = (ndimage.maximum_filter(cells, 3) != ndimage.minimum_filter(cells, 3)).astype(float)
    membrane = ndimage.gaussian_filter(rim, 1) + rng.normal(0, 0.05, cells.shape)
    nucleus = ndimage.gaussian_filter((distance.min(axis=0) < 7).astype(float), 1.2) + 0.03 * rng.standard_normal(cells.shape)
    return nucleus, membrane - membrane.min(), cells
