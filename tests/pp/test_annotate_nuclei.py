from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from geopandas import GeoDataFrame
from sklearn.metrics import adjusted_rand_score
from spatialdata import SpatialData, read_zarr, to_polygons
from spatialdata.models import Labels2DModel, ShapesModel
from spatialdata.transformations import get_transformation

import sjg
from sjg.core import ExistingElementError, InputError, MissingElementError


@pytest.fixture(scope="module")
def tissue():
    return sjg.datasets.simulated_tissue(size_um=(160, 160), n_cell_types=5, random_state=1)


@pytest.fixture
def sdata(tissue):
    """The same elements in a new object."""
    kinds = ("images", "labels", "shapes", "points", "tables")
    return SpatialData(**{kind: dict(getattr(tissue, kind)) for kind in kinds})


def _true_types(sdata):
    truth = sdata.tables["truth"].obs.set_index("cell_id")["cell_type"]
    return truth.loc[sdata.tables["nuclei_table"].obs["cell_id"]].astype(str).to_numpy()


def test_types_by_reference(sdata, tmp_path):
    assert sjg.pp.annotate_nuclei(sdata, reference="reference") is None
    table = sdata.tables["nuclei_table"]
    ids = np.unique(np.asarray(sdata.labels["nuclei"]))[1:]
    assert table.obs["cell_id"].tolist() == ids.tolist()
    assert table.obs["cell_type"].dtype == "category"
    assert table.obs["cell_type_confidence"].between(0, 1).all()
    assert table.obs["region"].unique().tolist() == ["nuclei"]
    assert (table.obs["cell_type"].astype(str).to_numpy() == _true_types(sdata)).mean() > 0.85
    sdata.write(tmp_path / "out.zarr")
    again = read_zarr(tmp_path / "out.zarr").tables["nuclei_table"]
    assert again.obs["cell_type"].astype(str).to_dict() == table.obs["cell_type"].astype(str).to_dict()


def test_counts_are_those_of_the_molecules(sdata):
    sjg.pp.annotate_nuclei(sdata, reference="reference")
    table = sdata.tables["nuclei_table"]
    points = sdata.points["transcripts"].compute()
    labels = np.asarray(sdata.labels["nuclei"])
    scale = get_transformation(sdata.labels["nuclei"]).to_affine_matrix(("x", "y"), ("x", "y"))
    pixel = np.floor(points[["x", "y"]].to_numpy() / np.diag(scale)[:2]).astype(int)
    cell = labels[pixel[:, 1], pixel[:, 0]]
    expected = pd.crosstab(cell[cell > 0], points["gene"].astype(str).to_numpy()[cell > 0])
    expected = expected.reindex(index=table.obs["cell_id"], columns=table.var_names, fill_value=0)
    np.testing.assert_array_equal(table.X.toarray(), expected.to_numpy())
    assert (table.layers["counts"] != table.X).nnz == 0
    np.testing.assert_array_equal(table.obs["n_transcripts"], expected.sum(axis=1))


def test_types_by_clustering(sdata):
    sjg.pp.annotate_nuclei(sdata)
    table = sdata.tables["nuclei_table"]
    assert adjusted_rand_score(_true_types(sdata), table.obs["cell_type"]) > 0.6
    assert set(table.obs["cell_type"].cat.categories) == {str(i) for i in range(table.obs["cell_type"].nunique())}
    sjg.pp.annotate_nuclei(sdata, n_clusters=3, overwrite=True)
    assert sdata.tables["nuclei_table"].obs["cell_type"].nunique() == 3


def test_nuclei_as_shapes_give_the_same(sdata):
    sjg.pp.annotate_nuclei(sdata, reference="reference")
    shapes = to_polygons(sdata.labels["nuclei"])
    sdata.shapes["outlines"] = ShapesModel.parse(
        GeoDataFrame(geometry=shapes.geometry.to_numpy(), index=shapes.index.astype(int)),
        transformations=get_transformation(shapes, get_all=True),
    )
    sjg.pp.annotate_nuclei(sdata, "outlines", reference="reference", key_added="by_shapes")
    one, other = sdata.tables["nuclei_table"], sdata.tables["by_shapes"]
    assert other.obs["region"].unique().tolist() == ["outlines"]
    assert one.obs["cell_id"].tolist() == other.obs["cell_id"].tolist()
    assert np.corrcoef(one.obs["n_transcripts"], other.obs["n_transcripts"])[0, 1] > 0.98
    assert (one.obs["cell_type"].astype(str).to_numpy() == other.obs["cell_type"].astype(str).to_numpy()).mean() > 0.95
    for ids, match in ((range(len(shapes)), "from 1"), ([f"n{i}" for i in range(len(shapes))], "positive integers")):
        sdata.shapes["outlines"].index = list(ids)
        with pytest.raises(InputError, match=match):
            sjg.pp.annotate_nuclei(sdata, "outlines", reference="reference", key_added="no")


def test_ids_with_gaps_and_empty_nuclei(sdata):
    labels = np.asarray(sdata.labels["nuclei"]).astype(np.int64)
    labels = np.where(labels % 7 == 3, 0, labels) * 10
    free = np.argwhere(np.asarray(sdata.labels["cells"]) == 0)[0]
    labels[tuple(free)] = 9999
    sdata.labels["gappy"] = Labels2DModel.parse(
        labels, dims=("y", "x"), transformations=get_transformation(sdata.labels["nuclei"], get_all=True)
    )
    for name, reference in (("with_reference", "reference"), ("clustered", None)):
        sjg.pp.annotate_nuclei(sdata, "gappy", reference=reference, key_added=name)
        table = sdata.tables[name]
        assert table.obs["cell_id"].tolist() == np.unique(labels)[1:].tolist()
        assert not table.obs["cell_type"].isna().any()


@pytest.mark.parametrize("n_nuclei", [1, 5])
def test_few_nuclei(sdata, n_nuclei):
    labels = np.asarray(sdata.labels["nuclei"])
    transformations = get_transformation(sdata.labels["nuclei"], get_all=True)
    sdata.labels["few"] = Labels2DModel.parse(np.where(labels <= n_nuclei, labels, 0), dims=("y", "x"), transformations=transformations)
    for name, reference in (("with_reference", "reference"), ("clustered", None)):
        sjg.pp.annotate_nuclei(sdata, "few", reference=reference, key_added=name)
        assert sdata.tables[name].n_obs == n_nuclei


def test_bad_input_is_named_and_nothing_written(sdata):
    before = set(sdata.tables)
    with pytest.raises(MissingElementError, match="'nuclei'"):
        sjg.pp.annotate_nuclei(sdata, "nowhere")
    with pytest.raises(MissingElementError, match="'reference'"):
        sjg.pp.annotate_nuclei(sdata, reference="nothing")
    with pytest.raises(MissingElementError, match="'transcripts'"):
        sjg.pp.annotate_nuclei(sdata, points_key="spots")
    with pytest.raises(InputError, match="share 0 genes"):
        sjg.pp.annotate_nuclei(sdata, reference=pd.DataFrame(np.ones((6, 2)), index=list("uvwxyz"), columns=["A", "B"]))
    with pytest.raises(InputError, match="give one"):
        sjg.pp.annotate_nuclei(sdata, reference="reference", n_clusters=3)
    with pytest.raises(InputError, match="n_clusters"):
        sjg.pp.annotate_nuclei(sdata, n_clusters=0)
    with pytest.raises(InputError, match="coordinate system 'lab'"):
        sjg.pp.annotate_nuclei(sdata, coordinate_system="lab")
    with pytest.raises(InputError, match="feature_key"):
        sjg.pp.annotate_nuclei(sdata, feature_key="symbol")
    sdata.labels["blank"] = Labels2DModel.parse(np.zeros((8, 8), int), dims=("y", "x"))
    with pytest.raises(InputError, match="no nucleus"):
        sjg.pp.annotate_nuclei(sdata, "blank")
    assert set(sdata.tables) == before
    with pytest.raises(ExistingElementError, match="overwrite=True"):
        sjg.pp.annotate_nuclei(sdata, key_added="truth")
