"""Four planted cells whose colours, outlines and positions are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from geopandas import GeoDataFrame
from scipy.sparse import csr_matrix
from shapely.geometry import box
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale

#: micrometres per pixel of images and labels
PIXEL_UM = 0.5
GENES = ["Gad1", "Plp1", "Aqp4"]
#: rows and columns (first, past the last) of the cells 1 to 4 in pixels
CELLS = {1: (10, 50, 10, 50), 2: (10, 50, 50, 100), 3: (60, 90, 10, 60), 4: (60, 95, 70, 110)}
TYPES = {1: "neuron", 2: "glia", 3: "neuron", 4: "rare"}


def paint(cells: dict[int, tuple[int, int, int, int]], shrink: int = 0) -> np.ndarray:
    labels = np.zeros((100, 120), dtype=np.int32)
    for cell, (top, bottom, left, right) in cells.items():
        labels[top + shrink : bottom - shrink, left + shrink : right - shrink] = cell
    return labels


@pytest.fixture
def sdata() -> SpatialData:
    """Cells as ``tl.segment`` writes them, in micrometres (``global``) and in pixels (``pixels``)."""
    rng = np.random.default_rng(0)
    frames = {"global": Scale([PIXEL_UM, PIXEL_UM], axes=("x", "y")), "pixels": Identity()}
    cells, nuclei = paint(CELLS), paint(CELLS, shrink=12)
    dapi = (nuclei > 0) * 200.0 + 10 * rng.random(nuclei.shape)
    obs = pd.DataFrame(
        {
            "region": pd.Categorical(["sjg_cells"] * 4),
            "cell_id": [1, 2, 3, 4],
            "cell_type": pd.Categorical([TYPES[i] for i in range(1, 5)], categories=["absent", "glia", "neuron", "rare"]),
            "cell_type_confidence": [0.9, 0.8, 0.95, 0.4],
            "n_transcripts": [10, 20, 30, 40],
            "area_um2": [400.0, 500.0, 375.0, 350.0],
        },
        index=["1", "2", "3", "4"],
    )
    counts = csr_matrix(np.array([[5, 0, 1], [0, 9, 0], [6, 1, 0], [0, 0, 7]], dtype=np.int32))
    table = AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES))
    table.varm["gene_importance"] = pd.DataFrame(
        {"absent": [np.nan] * 3, "glia": [0.1, 3.0, 0.2], "neuron": [2.0, 0.3, 0.5], "rare": [0.0, 0.1, 1.0]}, index=GENES
    )
    table.uns["sjg"] = {
        "image_key": "dapi",
        "points_key": "transcripts",
        "nuclei_key": "nuclei",
        "grid": {"pixel_size_um": PIXEL_UM},
        "history": {
            "epoch": np.arange(6),
            "loss": np.array([3.0, 2.0, 1.5, 1.2, 1.1, np.nan]),
            "fraction_assigned": np.linspace(0.4, 0.8, 6),
            "phase": np.array(["warm"] * 2 + ["train"] * 4, dtype=object),
        },
    }
    # a transcript in the middle of each cell, and two outside of all
    xy_px = [((left + right) / 2, (top + bottom) / 2) for top, bottom, left, right in CELLS.values()] + [(115.0, 5.0), (5.0, 97.0)]
    points = pd.DataFrame(np.array(xy_px) * PIXEL_UM, columns=["x", "y"])
    points["gene"] = pd.Categorical(["Gad1", "Plp1", "Gad1", "Aqp4", "Gad1", "Plp1"], categories=GENES)
    points["sjg_cell_id"] = [1, 2, 3, 4, 0, 0]
    rims = GeoDataFrame(geometry=[box(left, top, right, bottom) for top, bottom, left, right in CELLS.values()], index=[1, 2, 3, 4])
    maps = np.stack([np.full((100, 120), level, dtype=np.float32) for level in (1.0, 3.0, 2.0)])
    maps[:, ::7, ::7] += 0.5
    return SpatialData(
        images={
            "dapi": Image2DModel.parse(dapi[None].astype(np.uint16), dims=("c", "y", "x"), c_coords=["dapi"], transformations=frames),
            "maps": Image2DModel.parse(maps, dims=("c", "y", "x"), c_coords=GENES, transformations=frames),
        },
        labels={
            "sjg_cells": Labels2DModel.parse(cells, dims=("y", "x"), transformations=frames),
            "nuclei": Labels2DModel.parse(nuclei, dims=("y", "x"), transformations=frames),
        },
        points={"transcripts": PointsModel.parse(points, feature_key="gene", transformations={"global": Identity()})},
        shapes={"truth": ShapesModel.parse(rims, transformations=frames)},
        tables={"sjg_table": TableModel.parse(table, region="sjg_cells", region_key="region", instance_key="cell_id")},
    )
