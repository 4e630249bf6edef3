"""napari-spatialdata opens every element of a run; its layers are made without a window."""

from __future__ import annotations

import pytest
import spatialdata as sd

import sjg

pytest.importorskip("napari_spatialdata", reason="napari-spatialdata is not installed (it brings Qt)")


@pytest.fixture(scope="module")
def result() -> sd.SpatialData:
    sdata = sjg.datasets.simulated_tissue(size_um=(48, 48), n_cell_types=2, n_genes=10)
    quick = {"preset": "fast", "max_epochs": 1, "parameters": {"steps_per_round": 1, "n_importance_patches": 1}, "progress": False}
    sjg.tl.segment(sdata, reference="reference", **quick)
    return sdata


@pytest.mark.parametrize(
    ("kind", "key", "table"),
    [("image", "dapi", False), ("labels", "sjg_cells", True), ("points", "transcripts", False), ("shapes", "sjg_boundaries", False)],
)
def test_every_element_becomes_a_layer(result, kind, key, table):
    from napari.components import ViewerModel
    from napari.utils.events import EventedList
    from napari_spatialdata._viewer import SpatialDataViewer

    viewer = ViewerModel()
    getattr(SpatialDataViewer(viewer, EventedList([result])), f"add_sdata_{kind}")(result, key, "global", False)
    (layer,) = viewer.layers
    n_cells = result["sjg_table"].n_obs
    if kind == "points":
        assert len(layer.data) == len(result.points["transcripts"])
    if kind == "shapes":
        assert len(layer.data) == n_cells
    if table:
        # coloured by the columns and genes of the table, a row for each id
        assert layer.metadata["adata"].n_obs == n_cells
        assert list(layer.metadata["adata"].obs["cell_id"]) == list(range(1, n_cells + 1))
