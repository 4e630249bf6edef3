from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix
from skimage.transform import rescale
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
from spatialdata.transformations import Scale

import sjg
from sjg import metrics
from sjg.core import InputError, MissingElementError
from sjg.tl import aggregate, evaluate

PIXEL_UM = 0.5
N_TYPES, N_GENES = 2, 8
SIDE = 200
MEANS = np.kron(np.eye(N_TYPES), np.full((1, N_GENES // N_TYPES), 6.0))
GENE_NAMES = [f"gene_{g}" for g in range(N_GENES)]
TYPE_NAMES = ["left", "right"]


def cells_and_types():
    """Squares of 16 px, 4 px apart, ids 1..100; type by turns."""
    labels = np.zeros((SIDE, SIDE), dtype=np.int32)
    ids = np.arange(1, 101).reshape(10, 10)
    labels[2:, 2:][:, :] = np.kron(ids, np.pad(np.ones((16, 16), int), ((0, 4), (0, 4))))[: SIDE - 2, : SIDE - 2]
    return labels, (ids.ravel() - 1) % 2


def annotation(region, ids, types):
    obs = pd.DataFrame(
        {"region": pd.Categorical([region] * len(ids)), "cell_id": ids, "cell_type": np.array(TYPE_NAMES)[types]},
        index=[str(i) for i in ids],
    )
    return TableModel.parse(
        AnnData(np.zeros((len(ids), 1), np.float32), obs=obs), region=region, region_key="region", instance_key="cell_id"
    )


@pytest.fixture(scope="module")
def tissue():
    """Truth, transcripts that all lie in their cell but for some noise, and a segmentation moved by 3 px with ids of its own."""
    rng = np.random.default_rng(0)
    labels, types = cells_and_types()
    counts = rng.poisson(MEANS[types])
    cell, gene = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    corner = np.stack([cell // 10, cell % 10], axis=1) * 20 + 2
    yx = np.concatenate([corner + rng.uniform(0, 16, corner.shape), rng.uniform(0, SIDE, (300, 2))])
    gene = np.concatenate([gene, rng.integers(0, N_GENES, 300)])
    true_cell = np.concatenate([cell + 1, np.zeros(300, int)])
    moved = np.roll(labels, 3, axis=1) * 10
    moved[:3] = 0
    posterior = np.where(rng.random(len(true_cell)) < 0.9, true_cell, 0) * 10
    points = pd.DataFrame(
        {
            "x": yx[:, 1] * PIXEL_UM,
            "y": yx[:, 0] * PIXEL_UM,
            "gene": pd.Categorical(np.array(GENE_NAMES)[gene]),
            "true_cell": true_cell,
            "moved_cell_id": posterior,
        }
    )
    ids = np.arange(1, 101)
    guessed = np.where(ids <= 20, 1 - types, types)
    sdata = SpatialData(
        labels={name: Labels2DModel.parse(array, dims=("y", "x")) for name, array in {"cells": labels, "moved_cells": moved}.items()},
        points={
            "transcripts": PointsModel.parse(
                points, feature_key="gene", npartitions=3, transformations={"global": Scale([1 / PIXEL_UM] * 2, axes=("x", "y"))}
            )
        },
        tables={
            "truth": annotation("cells", ids, types),
            "moved_table": annotation("moved_cells", ids * 10, guessed),
            "reference": TableModel.parse(AnnData(MEANS, obs=pd.DataFrame(index=TYPE_NAMES), var=pd.DataFrame(index=GENE_NAMES))),
        },
    )
    arrays = {"labels": labels, "moved": moved, "yx": yx, "gene": gene, "true_cell": true_cell, "posterior": posterior}
    return sdata, arrays


def as_dict(frame):
    assert list(frame.columns) == ["metric", "value"]
    assert frame["metric"].is_unique
    return dict(zip(frame["metric"], frame["value"], strict=True))


@pytest.fixture(scope="module")
def scores(tissue):
    return as_dict(evaluate(tissue[0], "moved_cells", truth_key="cells", reference="reference"))


def looked_up(labels, yx):
    return labels[yx[:, 0].astype(int), yx[:, 1].astype(int)]


def test_masks_are_scored_as_by_the_pure_functions(tissue, scores):
    labels, moved = tissue[1]["labels"], tissue[1]["moved"]
    for name, value in metrics.segmentation_scores(labels, moved).items():
        assert scores[name] == pytest.approx(value)
    # 13 of 16 columns shared, except for the top row of cells, which lost a row
    assert scores["mean_iou"] == pytest.approx(0.9 * 13 / 19 + 0.1 * (13 * 15) / (16 * 32 - 13 * 15 - 16), abs=1e-9)


def test_transcripts_are_scored_by_mask_and_by_posterior(tissue, scores):
    arrays = tissue[1]
    by_mask = looked_up(arrays["moved"], arrays["yx"])
    for suffix, cell in (("", by_mask), ("_posterior", arrays["posterior"])):
        expected = metrics.transcript_assignment(arrays["true_cell"], cell)
        for name in ("accuracy", "precision", "recall"):
            assert scores[f"transcript_{name}{suffix}"] == pytest.approx(getattr(expected, name))
        assert scores[f"transcript_jaccard{suffix}"] == pytest.approx(metrics.transcript_jaccard(arrays["true_cell"], cell))
        assert scores[f"fraction_assigned{suffix}"] == pytest.approx((cell > 0).mean())
        counts = pd.crosstab(cell, arrays["gene"]).drop(index=0)
        assert scores[f"median_transcripts_per_cell{suffix}"] == np.median(counts.sum(axis=1))
        assert scores[f"median_genes_per_cell{suffix}"] == np.median((counts > 0).sum(axis=1))
    assert scores["transcript_accuracy_posterior"] > scores["transcript_accuracy"]


def test_cells_areas_and_types(scores):
    assert scores["n_cells"] == 100
    assert scores["median_area_um2"] == 256 * PIXEL_UM**2
    assert scores["cell_type_accuracy"] == pytest.approx(0.8)


def test_purities_agree_with_hand_made_ones(tissue, scores):
    arrays = tissue[1]
    cell = looked_up(arrays["moved"], arrays["yx"])
    counts = pd.crosstab(cell, arrays["gene"]).drop(index=0).to_numpy()
    types = cells_and_types()[1]
    expressing = metrics.poisson_expressing_fraction(MEANS)
    assert scores["coexpression_rate"] == pytest.approx(metrics.coexpression_rate(counts, metrics.exclusive_pairs(expressing)))
    # the counts tell the two types apart without doubt
    assert scores["negative_marker_purity"] == pytest.approx(metrics.negative_marker_purity(counts, types, expressing))
    assert scores["negative_marker_purity_posterior"] == pytest.approx(1)
    assert scores["coexpression_rate_posterior"] == 0


def test_calling_scores_at_three_distances(tissue, scores):
    arrays = tissue[1]
    expected = metrics.cell_calling_score(arrays["moved"], arrays["yx"], distance_px=(3, 5, 7))
    np.testing.assert_allclose([scores[f"cell_calling_score_{d}px"] for d in (3, 5, 7)], expected, rtol=1e-3)


def test_without_truth_and_reference(tissue):
    assert set(as_dict(evaluate(tissue[0], "cells"))) == {
        "n_cells",
        "median_area_um2",
        "fraction_assigned",
        "median_transcripts_per_cell",
        "median_genes_per_cell",
        "cell_calling_score_3px",
        "cell_calling_score_5px",
        "cell_calling_score_7px",
    }


def test_truth_against_itself_is_perfect(tissue):
    found = as_dict(evaluate(tissue[0], "cells", truth_key="cells", true_cell_key="not_there"))
    perfect = [name for name in found if name.startswith(("f1", "panoptic", "aggregated", "mean_iou", "transcript_", "cell_type"))]
    assert len(perfect) == 11
    assert all(found[name] == 1 for name in perfect)


@pytest.mark.parametrize("matching", ["id", "overlap"])
def test_other_matchings_of_cells(tissue, matching):
    sdata, arrays = tissue
    found = as_dict(evaluate(sdata, "moved_cells", truth_key="cells", matching=matching))
    pairs = metrics.matched_instances(arrays["labels"], arrays["moved"], iou=0) if matching == "overlap" else "id"
    expected = metrics.transcript_assignment(arrays["true_cell"], arrays["posterior"], matching=pairs)
    assert found["transcript_accuracy_posterior"] == pytest.approx(expected.accuracy)
    assert found["transcript_precision_posterior"] == pytest.approx(expected.precision)


def test_confidences_are_held_against_the_truth(tissue):
    sdata, arrays = tissue
    points = sdata["transcripts"].compute()
    sure = np.where(points["moved_cell_id"] > 0, 0.9, 0.4).astype(np.float32)
    frame = PointsModel.parse(
        points.assign(moved_confidence=sure), feature_key="gene", transformations={"global": Scale([1 / PIXEL_UM] * 2, axes=("x", "y"))}
    )
    judged = SpatialData(labels={key: sdata[key] for key in ("cells", "moved_cells")}, points={"transcripts": frame})
    found = as_dict(evaluate(judged, "moved_cells", truth_key="cells"))
    right = metrics.right_transcripts(arrays["true_cell"], arrays["posterior"])
    gaps = [abs(right[sure == level].mean() - level) * (sure == level).mean() for level in np.unique(sure)]
    assert found["calibration_error_posterior"] == pytest.approx(sum(gaps), abs=1e-6)


def test_labels_of_another_resolution_and_multiscale_truth(tissue):
    sdata, arrays = tissue
    fine = rescale(arrays["moved"], 2, order=0, preserve_range=True, anti_aliasing=False).astype(np.int32)
    half = Scale([0.5, 0.5], axes=("x", "y"))
    labels = {
        "cells": Labels2DModel.parse(arrays["labels"], dims=("y", "x"), scale_factors=[2]),
        "fine": Labels2DModel.parse(fine, dims=("y", "x"), scale_factors=[2], transformations={"global": half}),
    }
    other = SpatialData(labels=labels, points={"transcripts": sdata["transcripts"]})
    found = as_dict(evaluate(other, "fine", truth_key="cells"))
    expected = as_dict(evaluate(sdata, "moved_cells", truth_key="cells"))
    assert found["mean_iou"] == pytest.approx(expected["mean_iou"])
    assert found["transcript_accuracy"] == pytest.approx(expected["transcript_accuracy"])
    assert found["median_area_um2"] == pytest.approx(expected["median_area_um2"])


def test_masks_alone(tissue):
    sdata, arrays = tissue
    masks = SpatialData(labels={key: sdata[key] for key in ("cells", "moved_cells")})
    found = as_dict(evaluate(masks, "moved_cells", truth_key="cells"))
    assert found["mean_iou"] == pytest.approx(metrics.instance_iou(arrays["labels"], arrays["moved"]))
    assert set(found) == {*metrics.segmentation_scores(arrays["labels"], arrays["moved"]), "n_cells", "median_area_px2"}
    with pytest.raises(InputError, match="no points"):
        evaluate(masks, "cells", reference=pd.DataFrame(MEANS.T, GENE_NAMES, TYPE_NAMES))


def test_every_form_of_the_reference(tissue, scores):
    sdata, _ = tissue
    frame = pd.DataFrame(MEANS.T, index=GENE_NAMES, columns=TYPE_NAMES)
    found = as_dict(evaluate(sdata, "moved_cells", reference=frame))
    assert found["negative_marker_purity"] == scores["negative_marker_purity"]
    # the reference has a gene of its own, the genes come in another order
    wider = pd.concat([frame, pd.DataFrame([[9.0, 0.0]], ["absent"], TYPE_NAMES)]).iloc[::-1]
    found = as_dict(evaluate(sdata, "moved_cells", reference=wider))
    assert found["coexpression_rate"] == scores["coexpression_rate"]
    rng = np.random.default_rng(0)
    code = np.repeat([0, 1], 60)
    cells = AnnData(
        rng.poisson(MEANS[code]).astype(np.float32),
        obs=pd.DataFrame({"cell_type": np.array(TYPE_NAMES)[code]}, index=[f"c{i}" for i in range(120)]),
    )
    cells.var_names = GENE_NAMES
    for counts in (cells.X, csr_matrix(cells.X)):
        cells.X = counts
        found = as_dict(evaluate(sdata, "moved_cells", reference=cells))
        assert found["negative_marker_purity"] == pytest.approx(scores["negative_marker_purity"])


def test_purity_by_the_types_of_the_table(tissue):
    sdata, arrays = tissue
    found = as_dict(evaluate(sdata, "moved_cells", reference="reference", purity_types="table"))
    types = np.where(np.arange(100) < 20, 1 - cells_and_types()[1], cells_and_types()[1])
    counts = pd.crosstab(looked_up(arrays["moved"], arrays["yx"]), arrays["gene"]).drop(index=0).to_numpy()
    expected = metrics.negative_marker_purity(counts, types, metrics.poisson_expressing_fraction(MEANS))
    assert found["negative_marker_purity"] == pytest.approx(expected)


def test_nothing_is_changed(tissue):
    sdata, _ = tissue
    before = (sorted(name for _, name, _ in sdata.gen_elements()), list(sdata["transcripts"].columns))
    evaluate(sdata, "moved_cells", truth_key="cells", reference="reference")
    assert before == (sorted(name for _, name, _ in sdata.gen_elements()), list(sdata["transcripts"].columns))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels_key": "nuclei"}, MissingElementError, "labels_key='nuclei'"),
        ({"labels_key": "cells", "truth_key": "nuclei"}, MissingElementError, "truth_key='nuclei'"),
        ({"labels_key": "cells", "points_key": "spots"}, MissingElementError, "points_key='spots'"),
        ({"labels_key": "cells", "reference": "sc"}, MissingElementError, "reference='sc'"),
        ({"labels_key": "cells", "reference": pd.DataFrame([[1.0]], ["other"], ["T"])}, InputError, "share 0 genes"),
        ({"labels_key": "cells", "reference": 3}, InputError, "reference must be"),
        ({"labels_key": "cells", "matching": "greedy"}, InputError, "matching='greedy'"),
        ({"labels_key": "cells", "purity_types": "guess"}, InputError, "purity_types='guess'"),
        ({"labels_key": "cells", "coordinate_system": "stage"}, InputError, "'stage'"),
    ],
)
def test_refusals(tissue, arguments, error, message):
    with pytest.raises(error, match=message):
        evaluate(tissue[0], **arguments)


def test_real_section_with_class_means(data_dir):
    from sjg.datasets import mouse_ca1

    folder = data_dir / "mouse_ca1_iss"
    if not folder.is_dir():
        pytest.skip(f"no real section: {folder} is not a folder")
    found = as_dict(evaluate(mouse_ca1(folder), "nuclei", reference="reference"))
    assert found["n_cells"] == 3481
    # stated by the data's own description
    assert found["fraction_assigned"] == pytest.approx(0.61, abs=0.01)
    assert found["median_transcripts_per_cell"] == 7
    assert 0.9 < found["negative_marker_purity"] < 1
    assert 0 < found["coexpression_rate"] < 0.2


def test_areas_of_a_run_are_those_of_its_table():
    """Image and transcripts in pixels, the size given, and a working grid that is coarser than the image."""
    source = sjg.datasets.simulated_tissue(size_um=(64, 64), pixel_size_um=0.325, n_cell_types=2, n_genes=20)
    frame = source["transcripts"].compute()
    frame[["x", "y"]] /= 0.325
    sdata = SpatialData(
        images={"dapi": Image2DModel.parse(source["dapi"].to_numpy(), dims=("c", "y", "x"))},
        labels={"nuclei": Labels2DModel.parse(source["nuclei"].to_numpy(), dims=("y", "x"))},
        points={"transcripts": PointsModel.parse(frame.reset_index(drop=True), feature_key="gene")},
    )
    quick = {"preset": "fast", "max_epochs": 1, "parameters": {"steps_per_round": 1, "n_importance_patches": 1}, "progress": False}
    sjg.tl.segment(sdata, reference=source["reference"], pixel_size_um=0.325, **quick)
    table = sdata["sjg_table"]
    area = table.obs["area_um2"].median()
    assert table.uns["sjg"]["grid"]["pixel_size_um"] == pytest.approx(0.5)
    nuclei_um2 = np.median(np.bincount(source["nuclei"].to_numpy().ravel())[1:]) * 0.325**2
    assert nuclei_um2 < area < 400
    for given in (None, 0.325):
        assert as_dict(evaluate(sdata, "sjg_cells", pixel_size_um=given))["median_area_um2"] == pytest.approx(area)
    assert as_dict(evaluate(sdata, "nuclei", pixel_size_um=0.325))["median_area_um2"] == pytest.approx(nuclei_um2)
    assert "median_area_px2" in as_dict(evaluate(sdata, "nuclei"))
    aggregate(sdata, "sjg_cells", key_added="counts")
    np.testing.assert_allclose(sdata["counts"].obs["area_um2"], table.obs["area_um2"])
    del sdata.points["transcripts"]
    assert as_dict(evaluate(sdata, "sjg_cells"))["median_area_um2"] == pytest.approx(area)
