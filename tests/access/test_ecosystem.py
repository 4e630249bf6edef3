"""What users do next with the outputs: squidpy, scanpy and spatialdata-plot, after a round trip through a store."""

from __future__ import annotations

import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import spatialdata_plot  # noqa: F401 registers sdata.pl
import squidpy as sq
from spatialdata import SpatialData, get_centroids, join_spatialelement_table, read_zarr, transform
from spatialdata.models import Image2DModel, PointsModel

from sjg.access import read_molecules, working_grid, write_segmentation
from sjg.core import Segmentation
from sjg.core.colors import distinct_colors
from sjg.io import to_geojson
from sjg.pl._palette import type_colors


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> SpatialData:
    """60 cells of three types that lie in stripes, each type with its own genes."""
    matplotlib.use("Agg")
    generator = np.random.default_rng(0)
    side, n_rows, n_columns = 12, 6, 10
    labels = np.kron(np.arange(1, n_rows * n_columns + 1).reshape(n_rows, n_columns), np.ones((side, side))).astype(np.int32)
    labels[::side] = 0
    types = (np.arange(n_rows * n_columns) % n_columns) // 4
    n = 6000
    xy = generator.uniform(0, 1, (n, 2)) * [side * n_columns, side * n_rows]
    cell = labels[xy[:, 1].astype(int), xy[:, 0].astype(int)]
    own = np.where(cell > 0, types[cell - 1], generator.integers(0, 3, n))
    gene = np.where(generator.uniform(size=n) < 0.8, own * 4 + generator.integers(0, 4, n), generator.integers(0, 12, n))
    frame = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], "gene": pd.Categorical([f"g{code:02d}" for code in gene])})
    image = generator.integers(0, 255, (1, *labels.shape)).astype(np.uint8)
    sdata = SpatialData(
        images={"dapi": Image2DModel.parse(image, dims=("c", "y", "x"))},
        points={"transcripts": PointsModel.parse(frame, feature_key="gene")},
    )
    grid = working_grid(sdata, "dapi", "transcripts")
    molecules, report = read_molecules(sdata, "transcripts", grid)
    row, column = molecules.yx_px.astype(int).T
    segmentation = Segmentation(
        labels=labels,
        molecule_cell=labels[row, column],
        molecule_confidence=np.ones(len(molecules), dtype=np.float32),
        cell_type=types.astype(np.int32),
        cell_type_confidence=np.ones(len(types), dtype=np.float32),
        type_names=("alpha", "beta", "gamma"),
        gene_importance=np.zeros((12, 3), dtype=np.float32),
    )
    write_segmentation(sdata, segmentation, grid, molecules=molecules, report=report, image_key="dapi", points_key="transcripts")
    path = tmp_path_factory.mktemp("store") / "out.zarr"
    sdata.write(path)
    return read_zarr(path)


@pytest.mark.parametrize(
    "neighbours", ["spatial_neighbors_knn", "spatial_neighbors_delaunay", "spatial_neighbors_radius", "spatial_neighbors"]
)
def test_squidpy_neighbours_and_enrichment(result, neighbours):
    function = getattr(sq.gr, neighbours, None)
    if function is None:
        pytest.skip(f"this squidpy has no {neighbours}")
    table = result["sjg_table"].copy()
    function(table, **({"radius": 20.0} if neighbours.endswith("radius") else {}))
    sq.gr.nhood_enrichment(table, cluster_key="cell_type", n_perms=20, seed=0, show_progress_bar=False)
    zscore = table.uns["cell_type_nhood_enrichment"]["zscore"]
    assert zscore.shape == (3, 3)
    # stripes: a type is its own neighbour
    assert (np.diag(zscore) > 0).all()


def test_scanpy_normalise_pca_leiden(result):
    table = result["sjg_table"].copy()
    sc.pp.normalize_total(table)
    sc.pp.log1p(table)
    sc.pp.pca(table, n_comps=5)
    # the default of both compiles for half a minute
    sc.pp.neighbors(table, n_neighbors=8, method="gauss", transformer="sklearn")
    sc.tl.leiden(table, flavor="igraph", n_iterations=2, directed=False, random_state=0)
    assert pd.crosstab(table.obs["leiden"], table.obs["cell_type"]).max(axis=0).min() > 5
    sc.tl.rank_genes_groups(table, "cell_type", method="t-test")
    assert table.uns["rank_genes_groups"]["names"]["alpha"][0] in {"g00", "g01", "g02", "g03"}


def test_spatialdata_plot_renders_labels_and_shapes(result, tmp_path):
    figure, axes = plt.subplots(1, 3)
    result.pl.render_images("dapi").pl.render_labels("sjg_cells", color="cell_type", table_name="sjg_table").pl.show(ax=axes[0])
    result["sjg_table"].obs["region"] = pd.Categorical(["sjg_boundaries"] * 60)
    result.set_table_annotates_spatialelement("sjg_table", region="sjg_boundaries")
    result.pl.render_shapes("sjg_boundaries", color="cell_type", table_name="sjg_table").pl.show(ax=axes[1])
    result["sjg_table"].obs["region"] = pd.Categorical(["sjg_cells"] * 60)
    result.set_table_annotates_spatialelement("sjg_table", region="sjg_cells")
    result.pl.render_labels("sjg_cells", color="g00", table_name="sjg_table").pl.render_points("transcripts", size=0.2).pl.show(ax=axes[2])
    figure.savefig(tmp_path / "figure.png")
    plt.close(figure)
    drawn = plt.imread(tmp_path / "figure.png")
    assert drawn[..., :3].std() > 0.05


def test_spatialdata_operations(result):
    elements, table = join_spatialelement_table(sdata=result, spatial_element_names="sjg_cells", table_name="sjg_table", how="left")
    assert len(table) == 60
    assert set(elements) == {"sjg_cells"}
    centroids = get_centroids(result["sjg_cells"]).compute()
    np.testing.assert_allclose(centroids[["x", "y"]], result["sjg_table"].obsm["spatial"])
    moved = transform(result["sjg_boundaries"], to_coordinate_system="global")
    np.testing.assert_allclose(moved.geometry.area, result["sjg_table"].obs["area_px2"])
    box = result.query.bounding_box(axes=("x", "y"), min_coordinate=[0, 0], max_coordinate=[30, 30], target_coordinate_system="global")
    assert 0 < len(box["sjg_table"]) < 60


def test_one_palette_in_table_plots_and_exports(result, tmp_path):
    stored = [str(color) for color in result["sjg_table"].uns["cell_type_colors"]]
    assert stored == distinct_colors(3)
    assert type_colors(["alpha", "beta", "gamma"], [result["sjg_table"]]) == dict(zip(["alpha", "beta", "gamma"], stored, strict=True))
    # a table without colours gets the same ones, in plots and in QuPath
    del result["sjg_table"].uns["cell_type_colors"]
    assert list(type_colors(["alpha", "beta", "gamma"], [result["sjg_table"]]).values()) == stored
    to_geojson(result, tmp_path / "cells.geojson")
    features = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    shown = {one["properties"]["classification"]["name"]: tuple(one["properties"]["classification"]["color"]) for one in features}
    assert shown == {name: tuple(int(color[i : i + 2], 16) for i in (1, 3, 5)) for name, color in zip(shown, stored, strict=True)}
    result["sjg_table"].uns["cell_type_colors"] = stored
