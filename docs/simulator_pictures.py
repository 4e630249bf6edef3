"""Draws the pictures of simulator.md: python docs/simulator_pictures.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from skimage.segmentation import find_boundaries

import sjg

FOLDER = Path(__file__).parent / "_static"
COLORS = np.array([to_rgb(f"C{k}") for k in range(10)])


def painted(sdata):
    """Cells coloured by type, nuclei darker, borders black."""
    cells, nuclei = np.asarray(sdata["cells"]), np.asarray(sdata["nuclei"])
    code = np.r_[0, sdata["truth"].obs["cell_type"].cat.codes]
    picture = COLORS[code[cells] % 10] * np.where(nuclei > 0, 0.6, 1.0)[..., None]
    picture[(cells == 0) | find_boundaries(cells, mode="inner")] = 0
    return picture


def show(ax, picture, title, sdata):
    height, width = np.asarray(sdata["cells"]).shape
    ax.imshow(picture, cmap="gray", extent=(0, width / 2, height / 2, 0), interpolation="nearest")
    ax.set_title(title, fontsize=11)
    ax.set_xlabel("um")


def overview():
    sdata = sjg.datasets.simulated_tissue()
    molecules = sdata["transcripts"].compute()
    noise = molecules["true_cell"] == 0
    fig, axes = plt.subplots(1, 3, figsize=(15, 5.2), layout="constrained")
    show(axes[0], np.asarray(sdata["dapi"])[0], "images['dapi']", sdata)
    show(axes[1], painted(sdata), "labels['cells'] by type, labels['nuclei']", sdata)
    show(axes[2], painted(sdata), "points['transcripts'], noise in red", sdata)
    axes[2].scatter(molecules["x"][~noise], molecules["y"][~noise], s=1.5, c="white", linewidths=0)
    axes[2].scatter(molecules["x"][noise], molecules["y"][noise], s=5, c="red", linewidths=0)
    axes[2].set(xlim=(60, 140), ylim=(140, 60))
    fig.savefig(FOLDER / "simulator_overview.png", dpi=80)


def options():
    cases = {
        "type_mixing=0": {"type_mixing": 0.0},
        "type_mixing=5": {"type_mixing": 5.0},
        "coverage=0.6": {"coverage": 0.6},
        "cell_diameter_um=20": {"cell_diameter_um": 20},
    }
    fig, axes = plt.subplots(1, len(cases), figsize=(16, 4.4), layout="constrained")
    for ax, (title, settings) in zip(axes, cases.items(), strict=True):
        sdata = sjg.datasets.simulated_tissue(size_um=(150, 150), **settings)
        show(ax, painted(sdata), title, sdata)
    fig.savefig(FOLDER / "simulator_options.png", dpi=70)


def faults():
    cases = {
        "no faults": {},
        "missed_fraction=0.1": {"missed_fraction": 0.1},
        "merged_fraction=0.1": {"merged_fraction": 0.1},
        "jitter_um=1.5": {"jitter_um": 1.5},
    }
    fig, axes = plt.subplots(1, len(cases), figsize=(16, 4.4), layout="constrained")
    for ax, (title, settings) in zip(axes, cases.items(), strict=True):
        sdata = sjg.datasets.simulated_tissue(size_um=(90, 90), **settings)
        nuclei, cells = np.asarray(sdata["nuclei"]), np.asarray(sdata["cells"])
        picture = np.repeat(np.clip(np.asarray(sdata["dapi"])[0] / 2600, 0, 1)[..., None], 3, axis=2)
        picture[find_boundaries(cells, mode="inner")] = (0.25, 0.25, 0.25)
        picture[find_boundaries(nuclei, mode="inner")] = to_rgb("yellow")
        show(ax, picture, title, sdata)
    fig.savefig(FOLDER / "simulator_faults.png", dpi=70)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    overview()
    options()
    faults()
