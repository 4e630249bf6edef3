"""A small tissue with everything known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from numpy.typing import NDArray
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
from spatialdata.transformations import BaseTransformation, Identity, Scale

from sjg.access import MoleculeReport, read_molecules, read_nuclei, working_grid
from sjg.core import Grid, Molecules, Segmentation

SHAPE = (90, 120)
#: (top, left) of square nuclei of 12 pixels, by id; ids have gaps
NUCLEI = {3: (6, 6), 10: (6, 40), 11: (40, 70), 500: (70, 20)}


def nuclei_raster() -> NDArray[np.int32]:
    labels = np.zeros(SHAPE, dtype=np.int32)
    for label, (top, left) in NUCLEI.items():
        labels[top : top + 12, left : left + 12] = label
    return labels


def transcript_frame(n: int = 600, seed: int = 0) -> pd.DataFrame:
    """Transcripts over the whole image in pixels, five genes."""
    generator = np.random.default_rng(seed)
    height, width = SHAPE
    return pd.DataFrame(
        {
            "x": generator.uniform(0, width, n),
            "y": generator.uniform(0, height, n),
            "gene": pd.Categorical(generator.choice(list("EDCBA"), n)),
            "cell_id": [f"vendor-{index % 7}" for index in range(n)],
        }
    )


def parse_points(frame: pd.DataFrame, transformation: BaseTransformation | None = None, npartitions: int = 3) -> dd.DataFrame:
    return PointsModel.parse(frame, feature_key="gene", transformations={"global": transformation or Identity()}, npartitions=npartitions)


@pytest.fixture
def make_sdata() -> Callable[..., SpatialData]:
    """Image of 0.5 um pixels, nuclei, transcripts in um, and a table that annotates the nuclei."""

    def make(frame: pd.DataFrame | None = None, npartitions: int = 3) -> SpatialData:
        labels = nuclei_raster()
        image = 100 * (labels > 0) + np.random.default_rng(1).integers(0, 20, SHAPE)
        frame = transcript_frame() if frame is None else frame
        scale = Scale([0.5, 0.5], axes=("x", "y"))
        table = AnnData(
            obs=pd.DataFrame({"region": "nuclei", "id": list(NUCLEI), "type": pd.Categorical(["T", "B", "T", "B"])}, index=list("abcd"))
        )
        table.obs["region"] = table.obs["region"].astype("category")
        return SpatialData(
            images={"dapi": Image2DModel.parse(image[None].astype(np.uint16), dims=("c", "y", "x"), transformations={"global": scale})},
            labels={"nuclei": Labels2DModel.parse(labels, dims=("y", "x"), transformations={"global": scale})},
            points={"transcripts": parse_points(frame.assign(x=frame["x"] / 2, y=frame["y"] / 2), npartitions=npartitions)},
            tables={"nuclei_table": TableModel.parse(table, region="nuclei", region_key="region", instance_key="id")},
        )

    return make


@dataclass(frozen=True)
class Run:
    """All that a run hands to ``write_segmentation``."""

    grid: Grid
    molecules: Molecules
    report: MoleculeReport
    source_ids: NDArray[np.int64]
    segmentation: Segmentation


@pytest.fixture
def make_run() -> Callable[[SpatialData], Run]:
    """Nuclei widened by 3 pixels as cells; a molecule belongs to the cell it lies in."""

    def make(sdata: SpatialData) -> Run:
        grid = working_grid(sdata, "dapi", "transcripts")
        molecules, report = read_molecules(sdata, "transcripts", grid)
        nuclei, source_ids = read_nuclei(sdata, "nuclei", grid)
        labels = np.zeros_like(nuclei)
        for label in range(1, len(source_ids) + 1):
            rows, columns = np.nonzero(nuclei == label)
            labels[rows.min() - 3 : rows.max() + 4, columns.min() - 3 : columns.max() + 4] = label
        row, column = molecules.yx_px.astype(int).T
        generator = np.random.default_rng(2)
        n_cells, n_genes = len(source_ids), len(molecules.gene_names)
        segmentation = Segmentation(
            labels=labels,
            molecule_cell=labels[row, column],
            molecule_confidence=generator.uniform(0.5, 1, len(molecules)).astype(np.float32),
            cell_type=np.arange(n_cells, dtype=np.int32) % 2,
            cell_type_confidence=generator.uniform(0.5, 1, n_cells).astype(np.float32),
            type_names=("neuron", "glia", "absent"),
            gene_importance=generator.normal(size=(n_genes, 3)).astype(np.float32),
            history=[{"phase": "warm", "epoch": 0, "loss": 2.0}, {"phase": "self", "epoch": 1, "loss": 1.0, "assigned": 0.4}],
            network={"kind": "unet", "layers": {"conv.weight": generator.normal(size=(2, 3)).astype(np.float32)}},
            parameters={"preset": "fast", "max_epochs": None, "sigmas_px": (1.0, 2.0), "names": ["a", "b"], "amp": False},
        )
        return Run(grid, molecules, report, source_ids, segmentation)

    return make
