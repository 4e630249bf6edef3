from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage import morphology
from skimage.segmentation import expand_labels

from sjg.imaging import QUALITY_METRICS, quality_metrics, quality_scores, tissue_foreground
from sjg.imaging._disks import closed, opened


def _tissue(seed=0):
    """Square cells of two types in channels a and b, with their nuclei, on the left half of an image."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((120, 240), dtype=np.int32)
    cells[:, :120] = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((12, 12), dtype=np.int32))
    nuclei = np.where(np.kron(np.ones((10, 20)), np.pad(np.ones((6, 6)), 3)) > 0, cells, 0)
    kind = rng.integers(0, 2, 101)
    kind[0] = 2
    channels = np.stack([np.where(kind[cells] == index, 100.0, 5.0) for index in range(2)])
    channels[:, cells == 0] = 1
    return cells, nuclei, channels + rng.normal(0, 1, channels.shape), cells > 0


def test_worked_by_hand():
    cells, nuclei, channels, foreground = _tissue()
    # cells 1 and 2 without nuclei, one nucleus outside every cell
    nuclei[np.isin(nuclei, (1, 2))] = 0
    nuclei[50:54, 200:204] = 500
    values = quality_metrics(cells, nuclei, channels, foreground, pixel_size_um=0.5)
    assert tuple(values) == QUALITY_METRICS
    assert len(values) == 14
    assert values["NumberOfCellsPer100SquareMicrons"] == pytest.approx(100 * 98 / (120 * 240 * 0.25))
    assert values["FractionOfForegroundOccupiedByCells"] == pytest.approx(0.98)
    assert values["1-FractionOfBackgroundOccupiedByCells"] == 1
    assert values["FractionOfCellMaskInForeground"] == 1
    assert values["1/(ln(StandardDeviationOfCellSize)+1)"] == 1
    assert values["FractionOfMatchedCellsAndNuclei"] == pytest.approx(98 / (100 + 99 - 98))
    outside = foreground & np.isin(cells, (1, 2))
    cv = np.mean([channel[outside].std() / channel.mean() for channel in channels])
    assert values["1/(AvgCVForegroundOutsideCells+1)"] == pytest.approx(1 / (1 + cv))


def test_every_metric_lies_between_nothing_and_one_except_the_density():
    values = quality_metrics(*_tissue(), pixel_size_um=0.5)
    del values["NumberOfCellsPer100SquareMicrons"]
    # all tissue is covered here: nothing is known about what is left outside
    assert np.isnan([values.pop("1/(AvgCVForegroundOutsideCells+1)"), values.pop("FractionOfFirstPCForegroundOutsideCells")]).all()
    assert all(-1 <= value <= 1 for value in values.values())


def test_worse_segmentations_score_lower():
    cells, nuclei, channels, foreground = _tissue()
    shifted = np.roll(cells, (6, 6), (0, 1))
    merged = np.where(cells > 0, (cells + 1) // 2, 0)
    tables = [
        list(quality_metrics(labels, nuclei, channels, foreground, pixel_size_um=0.5).values()) for labels in (cells, shifted, merged)
    ]
    scores = quality_scores(np.array(tables))
    assert scores.argmax() == 0
    position = QUALITY_METRICS.index("Nucleus: 1/(AvgOfWeightedAvgCVMeanCellIntensitiesOver1~10NumberOfClusters+1)")
    assert tables[0][position] > tables[2][position]


def test_scores_do_not_depend_on_the_unit_of_a_metric():
    table = np.random.default_rng(0).random((6, 5))
    np.testing.assert_allclose(quality_scores(table * [1, 10, 100, 1, 3] + 7), quality_scores(table), atol=1e-9)
    assert np.isnan(quality_scores(table[:2])).all()


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_closing_and_opening_are_those_with_a_disk(radius):
    mask = ndimage.gaussian_filter(np.random.default_rng(radius).normal(size=(90, 90)), 2) > 0.05
    inner = (slice(2 * radius, -2 * radius),) * 2
    np.testing.assert_array_equal(closed(mask, radius)[inner], morphology.closing(mask, morphology.disk(radius))[inner])
    np.testing.assert_array_equal(opened(mask, radius)[inner], morphology.opening(mask, morphology.disk(radius))[inner])


def test_foreground_is_the_tissue():
    cells, _, channels, _ = _tissue()
    large = np.kron(channels, np.ones((1, 3, 3)))
    tissue = np.kron(cells > 0, np.ones((3, 3))) > 0
    found = tissue_foreground(large)
    assert (found & tissue).sum() / (found | tissue).sum() > 0.9


def test_blocks_and_lazy_arrays_change_nothing(monkeypatch):
    import dask.array as da

    from sjg.imaging import _blocks

    cells, nuclei, channels, foreground = _tissue()
    nuclei[np.isin(nuclei, (1, 2))] = 0
    expected = quality_metrics(cells, nuclei, channels, foreground, pixel_size_um=0.5)
    monkeypatch.setattr(_blocks, "BLOCK_PX", 50)
    lazy = [da.from_array(raster, chunks=32) for raster in (cells, nuclei, foreground)]
    planes = [da.from_array(channel, chunks=32) for channel in channels]
    found = quality_metrics(*lazy[:2], planes, lazy[2], pixel_size_um=0.5)
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("side", [2048, 70])
def test_foreground_settles_like_the_contour_of_scikit_image_in_blocks_of_any_size(monkeypatch, side):
    from skimage.segmentation import morphsnakes

    from sjg.imaging import _blocks

    rng = np.random.default_rng(side)
    channels = np.stack([ndimage.gaussian_filter(rng.normal(size=(200, 330)), width) for width in (1, 20)])
    channels *= np.array([0.6, 1])[:, None, None] / channels.std(axis=(1, 2), keepdims=True)
    channels[:, :, :150] += 2
    raw = (channels > channels.mean(axis=(1, 2), keepdims=True)).any(axis=0)
    solid = opened(closed(opened(closed(raw, 1), 2), 20), 10)
    solid |= _small_parts(~solid, 20_000)
    # scikit-image goes on from where the last call of the process left its alternating filters
    filters = [lambda u: morphsnakes.sup_inf(morphsnakes.inf_sup(u)), lambda u: morphsnakes.inf_sup(morphsnakes.sup_inf(u))]
    monkeypatch.setattr(morphsnakes, "_curvop", morphsnakes._fcycle(filters))
    background = morphsnakes.morphological_geodesic_active_contour(
        1.0 - raw, 5, init_level_set=(~solid).astype(np.int8), smoothing=1, balloon=0.8, threshold=0.5
    )
    expected = background == 0
    expected |= _small_parts(~expected, 1000)
    monkeypatch.setattr(_blocks, "BLOCK_PX", side)
    np.testing.assert_array_equal(tissue_foreground(channels), expected)
    assert 0.2 < expected.mean() < 0.95


def _small_parts(mask, area):
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return mask & (np.bincount(parts.ravel()) < area)[parts]


def test_only_informative_patches_are_judged():
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, Labels2DModel

    import sjg

    cells, nuclei, channels, _ = _tissue()
    planes = np.stack([np.where(nuclei > 0, 100.0, 5.0), *channels])

    def judged(columns, **options):
        sdata = SpatialData(images={"panel": Image2DModel.parse(planes[:, :, :columns], dims=("c", "y", "x"), c_coords=["dapi", "a", "b"])})
        for key, labels in (("whole", cells), ("cores", nuclei)):
            sdata.labels[key] = Labels2DModel.parse(labels[:, :columns].copy(), dims=("y", "x"))
        if options:
            sjg.pp.patches(sdata, "panel", mode="halves", overlap=0)
            sdata["patches"]["informative"] = [True, False]
        return sjg.tl.segmentation_quality(sdata, "whole", "panel", nuclei_key="cores", pixel_size_um=0.5, progress=False, **options)

    half = judged(240, patches_key="patches")
    assert (half.attrs["n_patches"], half.attrs["n_patches_skipped"]) == (2, 1)
    np.testing.assert_allclose(half.to_numpy(dtype=float), judged(120).to_numpy(dtype=float))
    assert half.iloc[0, 0] == pytest.approx(2 * judged(240).iloc[0, 0])


def test_the_table_ranks_segmentations():
    from spatialdata.models import Labels2DModel

    import sjg

    sdata = sjg.datasets.simulated_tissue(size_um=(64, 64))
    cells = np.asarray(sdata["cells"].data)
    for key, labels in {"large": expand_labels(cells, 6), "none": np.where(cells % 4 == 0, cells, 0)}.items():
        sdata.labels[key] = Labels2DModel.parse(labels, dims=("y", "x"), transformations=dict(sdata["cells"].attrs["transform"]))
    table = sjg.tl.segmentation_quality(sdata, ["cells", "large", "none"], nuclei_key="nuclei", pixel_size_um=0.5)
    assert table.index.tolist() == ["cells", "large", "none"]
    assert table.columns.tolist() == [*QUALITY_METRICS, "quality_score"]
    assert table["FractionOfMatchedCellsAndNuclei"].idxmax() != "none"
    assert table["FractionOfForegroundOccupiedByCells"].idxmin() == "none"
    assert table["quality_score"].notna().all()
