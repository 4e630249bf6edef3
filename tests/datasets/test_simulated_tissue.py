"""The simulated tissue as users get it: its truth is consistent, its settings are met, its seed is kept."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from anndata import AnnData
from scipy import ndimage
from spatialdata.transformations import get_transformation

from sjg.core import InputError
from sjg.datasets import simulated_tissue
from sjg.datasets._simulate import TissueParameters, simulate
from sjg.datasets._simulate_types import synthetic_profiles

# written down once for seed 0 (test_the_seed_gives_this_tissue_on_every_platform)
SHAPES_SHA256 = "fa56072b470f46b97fac1eb3b795ebb9ffcb615091a21eb73da0380dc4cd8490"
TYPES = [5, 8, 23, 17]
N_TRANSCRIPTS = 7761
DAPI_SUM = 21573165


@pytest.fixture(scope="module")
def sdata():
    return simulated_tissue(size_um=(120, 150), n_cell_types=5, n_genes=60, random_state=7)


@pytest.fixture(scope="module")
def arrays(sdata):
    return np.asarray(sdata["cells"]), np.asarray(sdata["nuclei"]), sdata["transcripts"].compute()


def test_elements_are_those_of_the_api(sdata):
    assert set(sdata.images) == {"dapi"}
    assert set(sdata.labels) == {"nuclei", "cells"}
    assert set(sdata.points) == {"transcripts"}
    assert set(sdata.tables) == {"truth", "reference"}
    assert sdata["dapi"].dims == ("c", "y", "x")
    assert sdata["dapi"].dtype == np.uint16
    assert sdata["dapi"].shape == (1, 240, 300)
    assert sdata["transcripts"].attrs["spatialdata_attrs"]["feature_key"] == "gene"
    assert isinstance(sdata["transcripts"]["gene"].dtype, pd.CategoricalDtype)
    assert list(sdata["reference"].obs_names) == [f"type_{k}" for k in range(5)]
    assert sdata["reference"].shape == (5, 60)
    assert sd.get_extent(sdata["cells"], coordinate_system="global") == {"x": (0, 150), "y": (0, 120)}


def test_pixel_scale_is_in_the_transformations(sdata):
    for key in ("dapi", "nuclei", "cells"):
        matrix = get_transformation(sdata[key]).to_affine_matrix(("x", "y"), ("x", "y"))
        np.testing.assert_array_equal(matrix, np.diag([0.5, 0.5, 1]))
    np.testing.assert_array_equal(get_transformation(sdata["transcripts"]).to_affine_matrix(("x", "y"), ("x", "y")), np.eye(3))


def test_nuclei_share_ids_with_the_cells_they_lie_in(arrays):
    cells, nuclei, _ = arrays
    np.testing.assert_array_equal(np.unique(cells), np.unique(nuclei))
    assert (cells[nuclei > 0] == nuclei[nuclei > 0]).all()
    assert all(ndimage.label(cells == i)[1] == 1 for i in range(1, cells.max() + 1))


def test_truth_table_matches_labels_and_points(sdata, arrays):
    cells, nuclei, molecules = arrays
    truth = sdata["truth"]
    n = cells.max()
    np.testing.assert_array_equal(truth.obs["cell_id"], np.arange(1, n + 1))
    assert truth.uns["spatialdata_attrs"]["region"] == "cells"
    np.testing.assert_allclose(truth.obs["area_um2"], np.bincount(cells.ravel())[1:] * 0.25)
    np.testing.assert_allclose(truth.obs["nucleus_area_um2"], np.bincount(nuclei.ravel())[1:] * 0.25)
    counts = pd.crosstab(molecules["true_cell"], molecules["gene"]).reindex(index=range(1, n + 1), columns=truth.var_names, fill_value=0)
    np.testing.assert_array_equal(truth.X.toarray(), counts.to_numpy())
    np.testing.assert_array_equal(truth.obs["n_transcripts"], counts.sum(axis=1))
    np.testing.assert_array_equal(truth.obs["nucleus_id"], truth.obs["cell_id"])
    middle = np.array(ndimage.center_of_mass(cells > 0, cells, np.arange(1, n + 1)))
    np.testing.assert_allclose(truth.obsm["spatial"], (middle[:, ::-1] + 0.5) * 0.5)


def test_settings_are_met(sdata, arrays):
    cells, _, molecules = arrays
    own = molecules[molecules["true_cell"] > 0]
    n = int(cells.max())
    # the mean of n cells with variance m + (0.15 + spread of the areas) m^2
    assert len(own) / n == pytest.approx(120, abs=4 * 120 * np.sqrt(0.5 / n))
    assert (molecules["true_cell"] == 0).mean() == pytest.approx(0.08, abs=1e-3)
    assert (cells > 0).mean() == pytest.approx(0.84, abs=0.01)
    assert np.sqrt(4 / np.pi * (cells > 0).sum() * 0.25 / n) == pytest.approx(12, abs=0.4)
    assert ((molecules["x"] >= 0) & (molecules["x"] < 150) & (molecules["y"] >= 0) & (molecules["y"] < 120)).all()
    # diffusion of 0.5 um carries some molecules out of their cells, not many
    seen = cells[(own["y"] * 2).astype(int), (own["x"] * 2).astype(int)]
    assert 0.9 < (seen == own["true_cell"]).mean() < 0.98


def test_counts_follow_the_reference(sdata):
    truth, reference = sdata["truth"], sdata["reference"]
    assert reference.X.sum(axis=1) == pytest.approx(120)
    for name in reference.obs_names:
        rows = (truth.obs["cell_type"] == name).to_numpy()
        seen = np.asarray(truth.X[rows].sum(axis=0)).ravel()
        if rows.sum() >= 20:
            assert np.corrcoef(seen, reference[name].X.ravel())[0, 1] > 0.97


def test_nuclear_genes_are_enriched_in_nuclei(sdata, arrays):
    _, nuclei, molecules = arrays
    inside = nuclei[(molecules["y"] * 2).astype(int), (molecules["x"] * 2).astype(int)] > 0
    enriched = molecules["gene"].map(sdata["reference"].var["nuclear_enrichment"]).astype(float).to_numpy() > 1
    assert inside[enriched].mean() > 1.4 * inside[~enriched].mean()


def test_stain_is_bright_in_nuclei_and_noisy(sdata, arrays):
    _, nuclei, _ = arrays
    dapi = np.asarray(sdata["dapi"][0]).astype(float)
    assert dapi[nuclei > 0].mean() > 3 * dapi[nuclei == 0].mean()
    assert dapi[nuclei == 0].std() > 10


def test_same_seed_same_tissue_and_other_seed_another(sdata):
    def fingerprint(other):
        points = other["transcripts"].compute()
        return (
            hashlib.sha256(np.asarray(other["dapi"]).tobytes() + np.asarray(other["cells"]).tobytes()).hexdigest(),
            hashlib.sha256(points[["x", "y", "true_cell"]].to_numpy().tobytes()).hexdigest(),
            tuple(points["gene"].astype(str)[:100]),
        )

    def again(seed):
        return simulated_tissue(size_um=(120, 150), n_cell_types=5, n_genes=60, random_state=seed)

    assert fingerprint(again(7)) == fingerprint(sdata)
    assert fingerprint(again(8)) != fingerprint(sdata)
    state = np.random.default_rng(3)
    assert fingerprint(again(state)) != fingerprint(again(state))


def test_global_random_state_is_not_touched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulated_tissue(size_um=(40, 40), n_genes=10, n_cell_types=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_seed_gives_this_tissue_on_every_platform():
    # shapes come from exact arithmetic; counts pass through libm, whose last bit differs between platforms
    profiles = synthetic_profiles(np.random.default_rng(0), n_cell_types=4, n_genes=30, n_markers_per_type=2)
    tissue = simulate(0, profiles, TissueParameters(size_um=(80.0, 90.0)))
    shapes = hashlib.sha256(tissue.cells.astype("<i4").tobytes() + tissue.true_nuclei.astype("<i4").tobytes()).hexdigest()
    assert shapes == SHAPES_SHA256
    assert np.bincount(tissue.cell_type, minlength=4).tolist() == TYPES
    assert len(tissue.transcripts.gene) == pytest.approx(N_TRANSCRIPTS, rel=1e-3)
    assert tissue.dapi.sum() == pytest.approx(DAPI_SUM, rel=1e-3)


def test_faults_are_planted_and_the_truth_is_not_touched():
    settings = {"size_um": (120, 120), "n_genes": 20, "n_cell_types": 4}
    clean = simulated_tissue(**settings)
    faulty = simulated_tissue(**settings, missed_fraction=0.1, merged_fraction=0.1, jitter_um=1, wrong_type_fraction=0.2)
    for key in ("cells", "dapi"):
        np.testing.assert_array_equal(clean[key], faulty[key])
    pd.testing.assert_frame_equal(clean["transcripts"].compute(), faulty["transcripts"].compute())
    n = len(clean["truth"])
    ids = np.unique(np.asarray(faulty["nuclei"]))[1:]
    n_left = n - round(0.1 * n)
    assert len(ids) == n_left - round(0.1 * n_left)
    table = faulty["nuclei_table"]
    np.testing.assert_array_equal(table.obs["cell_id"], ids)
    assert table.uns["spatialdata_attrs"]["region"] == "nuclei"
    true_type = faulty["truth"].obs.set_index("cell_id")["cell_type"].astype(str).loc[ids].to_numpy()
    assert (table.obs["cell_type"].astype(str).to_numpy() != true_type).mean() == pytest.approx(0.2, abs=0.1)
    assert set(faulty["truth"].obs["nucleus_id"]) <= {0, *ids}


def test_reference_as_dataframe_or_anndata():
    means = np.random.default_rng(0).gamma(0.5, 2, (6, 40))
    frame = pd.DataFrame(means.T, index=[f"Gene{i}" for i in range(40)], columns=[f"Class.{i}" for i in range(6)])
    table = AnnData(means, obs=pd.DataFrame(index=frame.columns), var=pd.DataFrame(index=frame.index))
    settings = {"size_um": (60, 60), "n_cell_types": 4, "n_genes": 25}
    a, b = simulated_tissue(reference=frame, **settings), simulated_tissue(reference=table, **settings)
    assert a["reference"].shape == (4, 25)
    assert set(a["reference"].obs_names) <= set(frame.columns)
    pd.testing.assert_frame_equal(a["transcripts"].compute(), b["transcripts"].compute())
    more = simulated_tissue(reference=frame, size_um=(60, 60), n_cell_types=50, n_genes=500)
    assert more["reference"].shape == (6, 40)
    chosen = frame.loc[more["reference"].var_names, more["reference"].obs_names].to_numpy().T
    np.testing.assert_allclose(more["reference"].X, 120 * chosen / chosen.sum(axis=1, keepdims=True), rtol=1e-5)


def test_survives_write_and_read(sdata, tmp_path):
    sdata.write(tmp_path / "tissue.zarr")
    read = sd.read_zarr(tmp_path / "tissue.zarr")
    np.testing.assert_array_equal(read["cells"], sdata["cells"])
    pd.testing.assert_frame_equal(read["truth"].obs, sdata["truth"].obs)
    assert read["transcripts"].compute()["gene"].tolist() == sdata["transcripts"].compute()["gene"].tolist()
    assert read.attrs["simulation"]["seed"] == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_fraction": 1.2}, "noise_fraction"),
        ({"noise_fraction": 1}, "below 1"),
        ({"pixel_size_um": 0}, "pixel_size_um"),
        ({"size_um": (10, 100)}, "two cell diameters"),
        ({"size_um": (100,)}, "size_um"),
        ({"n_cell_types": 0}, "n_cell_types"),
        ({"n_genes": 2.5}, "n_genes"),
        ({"n_markers_per_type": 50}, "n_markers_per_type"),
        ({"transcripts_per_cell": float("nan")}, "transcripts_per_cell"),
        ({"random_state": -1}, "random_state"),
        ({"coverage": 0}, "coverage"),
        ({"reference": [1, 2]}, "DataFrame"),
        ({"reference": pd.DataFrame({"a": [1.0, -1.0]}, index=["x", "y"])}, "0 or more"),
        ({"reference": pd.DataFrame({"a": [1.0, 1.0]}, index=["x", "x"])}, "more than once"),
        ({"reference": pd.DataFrame({"a": [0.0, 0.0]}, index=["x", "y"])}, "no counts"),
        ({"reference": pd.DataFrame({"gene": ["x"], "a": [1.0]})}, "index"),
        ({"reference": pd.DataFrame({"a": [True, False]}, index=["x", "y"])}, "numbers only"),
        ({"reference": pd.DataFrame({"a": [1.0, None]}, index=["x", "y"], dtype="Float64")}, "fill or drop"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        simulated_tissue(**settings)


def test_no_transcripts_and_no_noise():
    empty = simulated_tissue(size_um=(40, 40), n_genes=5, n_cell_types=2, transcripts_per_cell=0)
    assert len(empty["transcripts"]) == 0
    pure = simulated_tissue(size_um=(40, 40), n_genes=5, n_cell_types=2, noise_fraction=0, diffusion_um=0)
    molecules = pure["transcripts"].compute()
    seen = np.asarray(pure["cells"])[(molecules["y"] * 2).astype(int), (molecules["x"] * 2).astype(int)]
    np.testing.assert_array_equal(seen, molecules["true_cell"])


def test_a_reference_of_another_assay_sees_genes_differently_and_leaves_the_tissue_alone():
    plain, other = (simulated_tissue(size_um=(64, 64), random_state=4, reference_spread=spread) for spread in (0.0, 0.7))
    np.testing.assert_array_equal(plain["truth"].X.toarray(), other["truth"].X.toarray())
    ratio = np.log(other["reference"].X / plain["reference"].X)
    # one factor for each gene, the same in all types
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), atol=1e-9)
    assert ratio[0].std() == pytest.approx(0.7, rel=0.3)
