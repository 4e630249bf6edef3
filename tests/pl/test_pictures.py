"""What is inside the axes beside pictures that were looked at and found right, and legends that keep off the data.

Versions of matplotlib set text differently and move the axes by some pixels, so each axes is cut out, blurred and shrunk to one size
before it is compared: that passes, another colour, a shifted cell or a missing scale bar does not.
``SJG_NEW_BASELINES=1 pytest tests/pl/test_pictures.py`` writes new pictures to look at.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from matplotlib.legend import Legend
from scipy.ndimage import gaussian_filter, zoom
from spatialdata import SpatialData

import sjg

BASELINES = Path(__file__).parent / "baselines"
DPI = 100
#: side in pixels of an axes in the comparison
SIDE = 72
#: mean and 99.8th percentile of the differences in [0, 1] that another version may make
MEAN, HIGH = 0.012, 0.19

METRICS = {
    "nuclei": pd.DataFrame({"metric": ["mean_iou", "n_cells"], "value": [0.25, 4.0]}),
    "sjg_cells": pd.DataFrame({"metric": ["mean_iou", "n_cells"], "value": [0.75, 4.0]}),
}
PICTURES: dict[str, Callable[[SpatialData], Figure]] = {
    "segmentation": lambda sdata: sjg.pl.segmentation(sdata, title="four cells", show=False).figure,
    "segmentation_truth_transcripts": lambda sdata: (
        sjg.pl.segmentation(sdata, crop=(2, 42, 2, 30), truth_key="truth", transcripts=True, show=False).figure
    ),
    "segmentation_genes": lambda sdata: sjg.pl.segmentation(sdata, genes=["Gad1", "Plp1"], color="#4a7fb5", show=False).figure,
    "segmentation_numbers": lambda sdata: sjg.pl.segmentation(sdata, color="area_um2", nuclei_key="", show=False).figure,
    "comparison": lambda sdata: sjg.pl.comparison(sdata, {"nuclei": "nuclei", "sjg": "sjg_cells"}, metrics=METRICS, show=False),
    "attribution_map": lambda sdata: sjg.pl.attribution_map(sdata, "maps", n_genes=2, labels_key="sjg_cells", show=False),
    "gene_importance": lambda sdata: sjg.pl.gene_importance(sdata, show=False).figure,
    "gene_importance_heatmap": lambda sdata: sjg.pl.gene_importance(sdata, kind="heatmap", scale=False, show=False).figure,
    "history": lambda sdata: sjg.pl.history(sdata, show=False),
    "quality": lambda sdata: sjg.pl.quality(sdata, show=False),
}


def drawn(figure: Figure) -> np.ndarray:
    """(H, W, 3) picture in [0, 1]."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255.0


def insides(figure: Figure) -> np.ndarray:
    """(SIDE, n * SIDE, 3) blurred insides of the n axes, side by side."""
    rgb = drawn(figure)
    parts = []
    for ax in figure.axes:
        box = ax.get_window_extent()
        top, bottom = round(len(rgb) - box.y1), round(len(rgb) - box.y0)
        part = rgb[max(top, 0) : bottom, max(round(box.x0), 0) : round(box.x1)]
        # the mean over areas, so that a line of a pixel counts the same wherever it falls
        sigma = [0.6 * part.shape[axis] / SIDE for axis in (0, 1)]
        part = gaussian_filter(part, (*sigma, 0))
        parts.append(zoom(part, (SIDE / part.shape[0], SIDE / part.shape[1], 1), order=1, grid_mode=True, mode="nearest"))
    return np.clip(np.concatenate(parts, axis=1), 0.0, 1.0)


def difference(found: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Mean and 99.8th percentile of the absolute differences; a shift of a pixel is forgiven."""
    assert found.shape == expected.shape
    shifts = [np.roll(found, (y, x), axis=(0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    delta = np.min([np.abs(one - expected).max(axis=2) for one in shifts], axis=0)
    return float(delta.mean()), float(np.quantile(delta, 0.998))


@pytest.fixture(autouse=True)
def default_style():
    with mpl.rc_context(mpl.rcParamsDefault):
        yield


def baseline(name: str) -> np.ndarray:
    return imread(BASELINES / f"{name}.png")[..., :3].astype(float)


@pytest.mark.parametrize("name", PICTURES)
def test_picture(sdata, name):
    figure = PICTURES[name](sdata)
    found = insides(figure)
    if os.environ.get("SJG_NEW_BASELINES"):
        imsave(BASELINES / f"{name}.png", found)
    mean, high = difference(found, baseline(name))
    assert mean < MEAN, f"{name}: {mean:.4f} from the baseline"
    assert high < HIGH, f"{name}: {high:.3f} from the baseline"
    check_legends(figure)


def check_legends(figure: Figure) -> None:
    """Legends lie off all axes but their own frame, and inside the figure."""
    page = figure.bbox
    for legend in [one for ax in figure.axes for one in ax.findobj(Legend)]:
        box = legend.get_window_extent()
        assert page.x0 <= box.x0 + 2
        assert box.x1 - 2 <= page.x1
        assert page.y0 <= box.y0 + 2
        assert box.y1 - 2 <= page.y1
        for ax in figure.axes:
            assert not ax.get_window_extent().shrunk(0.99, 0.99).overlaps(box), "a legend covers data"


def recoloured(sdata: SpatialData) -> Figure:
    return sjg.pl.segmentation(sdata, title="four cells", palette={"neuron": "#ff00ff"}, show=False).figure


def without_bar(sdata: SpatialData) -> Figure:
    return sjg.pl.segmentation(sdata, title="four cells", scale_bar=False, show=False).figure


def shifted(sdata: SpatialData) -> Figure:
    return sjg.pl.segmentation(sdata, title="four cells", crop=(2, 62, 0, 50), show=False).figure


@pytest.mark.parametrize("draw", [recoloured, without_bar, shifted])
def test_a_wrong_picture_is_noticed(sdata, draw):
    mean, high = difference(insides(draw(sdata)), baseline("segmentation"))
    assert mean > MEAN or high > HIGH


def test_a_legend_on_the_data_is_noticed(sdata):
    figure = PICTURES["segmentation"](sdata)
    figure.axes[0].get_legend().set_bbox_to_anchor((0.3, 0.9))
    drawn(figure)
    with pytest.raises(AssertionError, match="covers data"):
        check_legends(figure)
