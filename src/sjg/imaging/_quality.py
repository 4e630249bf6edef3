"""Quality of a segmentation without truth: the 14 metrics of CellSegmentationEvaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from sjg.core import InputError
from sjg.imaging._blocks import Region, Report, iter_boxes, read
from sjg.imaging._match import NucleusMatches, match_nuclei, repaired_labels
from sjg.imaging._pixel_sums import LabelSums, Moments

_CELL_METRICS = (
    "NumberOfCellsPer100SquareMicrons",
    "FractionOfForegroundOccupiedByCells",
    "1-FractionOfBackgroundOccupiedByCells",
    "FractionOfCellMaskInForeground",
    "1/(ln(StandardDeviationOfCellSize)+1)",
    "FractionOfMatchedCellsAndNuclei",
    "1/(AvgCVForegroundOutsideCells+1)",
    "FractionOfFirstPCForegroundOutsideCells",
)
_PART_METRICS = (
    "1/(AvgOfWeightedAvgCVMeanCellIntensitiesOver1~10NumberOfClusters+1)",
    "AvgOfWeightedAvgFractionOfFirstPCMeanCellIntensitiesOver1~10NumberOfClusters",
    "AvgSilhouetteOver2~10NumberOfClusters",
)
_PARTS = ("Nucleus", "CellNotIncludingNucleus")
#: names of the metrics, as in CellSegmentationEvaluator; those of a compartment carry its name in front
QUALITY_METRICS = (*_CELL_METRICS, *(f"{part}: {name}" for part in _PARTS for name in _PART_METRICS))
_CLUSTERS = range(1, 11)
#: silhouettes are computed on at most this many cells
_MAX_SILHOUETTE = 5000
#: megabytes for the distances between them
_SILHOUETTE_MB = 64


def quality_metrics(
    cells: Any,
    nuclei: Any,
    channels: Sequence[Any] | NDArray[Any],
    foreground: Any,
    *,
    pixel_size_um: float,
    random_state: int = 0,
    region: Region | None = None,
    report: Report | None = None,
) -> dict[str, float]:
    """The 14 metrics, each higher for a better segmentation.

    Cells and nuclei are paired and repaired first (:func:`match_nuclei`, published rule); all but the matched fraction are about the
    pairs. Standardisation is over the whole channel, where the original code standardises each image column by itself. Rasters are
    read block by block; in memory are a block and a few numbers for each cell.

    Parameters
    ----------
    cells, nuclei
        (y, x) labels; NumPy, Zarr or Dask arrays, like all rasters here.
    channels
        (c, y, x) intensities, or a sequence of (y, x) arrays.
    foreground
        (y, x) tissue, see :func:`tissue_foreground`.
    pixel_size_um
        Side of a pixel.
    random_state
        Seed of the k-means clusterings.
    region
        Returns (y, x) bool for a box: the pixels that count as image; None for all. Cells count with all their pixels.
    report
        Is told (blocks done, blocks in all) of the pass over the channels.

    Returns
    -------
    dict by the names in ``QUALITY_METRICS``; NaN where a metric is not defined, such as silhouettes of fewer than three cells.

    References
    ----------
    Chen & Murphy (2023), Molecular Biology of the Cell 34:ar50.
    """
    shape = tuple(cells.shape)
    if any(tuple(raster.shape) != shape for raster in (nuclei, foreground, *channels)):
        raise InputError("cells, nuclei, foreground and channels must have one shape.")
    matches = match_nuclei(cells, nuclei, assignment="greedy")
    pixels = _Pixels.of(cells, nuclei, channels, foreground, matches, region, report)
    values = _coverage(pixels, matches, pixel_size_um) | _foreground_outside(pixels)
    clusterings = _clusterings(pixels.standard(pixels.parts["cell"].means), random_state)
    for name in _PARTS:
        raw = pixels.parts[name].means
        for metric, value in _homogeneity(raw, pixels.standard(raw), clusterings, random_state).items():
            values[f"{name}: {metric}"] = value
    return {name: values[name] for name in QUALITY_METRICS}


@dataclass(frozen=True)
class _Pixels:
    """What the metrics have to know about pixels.

    ``parts`` are sums over cells, nuclei and cytoplasm, ``mean`` and ``deviation`` those of whole channels, ``outside`` the tissue that no cell
    covers, ``n_*`` numbers of pixels.
    """

    parts: dict[str, LabelSums]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    outside: Moments
    n_pixels: int
    n_foreground: int
    n_covered: int
    n_covered_foreground: int

    @classmethod
    def of(
        cls,
        cells: Any,
        nuclei: Any,
        channels: Sequence[Any] | NDArray[Any],
        foreground: Any,
        matches: NucleusMatches,
        region: Region | None,
        report: Report | None,
    ) -> _Pixels:
        parts = {name: LabelSums(len(matches), len(channels)) for name in ("cell", *_PARTS)}
        whole = [Moments(1) for _ in channels]
        outside = Moments(len(channels))
        counts = np.zeros(4, dtype=np.int64)
        for box in iter_boxes(tuple(cells.shape), report=report):
            outer = box.grown(1, tuple(cells.shape))
            repaired = repaired_labels(read(cells, outer), read(nuclei, outer), matches)
            labels = dict(zip(parts, (part[box.inside(outer)].ravel() for part in repaired), strict=True))
            counted = np.ones(box.shape, dtype=bool).ravel() if region is None else region(box).ravel()
            covered = labels["cell"] > 0
            if not (counted.any() or covered.any()):
                continue
            tissue, inside = read(foreground, box).ravel() & counted, covered & counted
            counts += [counted.sum(), tissue.sum(), inside.sum(), (inside & tissue).sum()]
            uncovered = np.flatnonzero(tissue & ~covered)
            places = {name: np.flatnonzero(part) for name, part in labels.items()}
            seen = []
            for channel, plane in enumerate(channels):
                values = read(plane, box).ravel()
                whole[channel].add(values[None] if region is None else values[None, counted])
                for name, place in places.items():
                    parts[name].add(channel, labels[name][place], values[place])
                seen.append(values[uncovered])
            outside.add(np.stack(seen))
        mean, deviation = (np.concatenate([getattr(moments, name) for moments in whole]) for name in ("mean", "deviation"))
        return cls(parts, mean, np.where(deviation > 0, deviation, 1), outside, *counts.tolist())

    def standard(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """(labels, channels) means of the standardised channels."""
        scaled: NDArray[np.float64] = (means - self.mean) / self.deviation
        return scaled


def quality_scores(metrics: NDArray[np.float64]) -> NDArray[np.float64]:
    """One score for each segmentation: its first two principal components, weighted by the variance that they explain.

    The components are those of the segmentations compared, each turned so that its loadings sum to more than nothing, since every
    metric is higher for a better segmentation. Scores compare within one call only.

    Parameters
    ----------
    metrics
        (segmentations, metrics); a metric that is nowhere known or everywhere equal has no say, one that is not known counts as average.

    Returns
    -------
    (segmentations,); NaN for fewer than three.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging import quality_scores
    >>> quality_scores(np.array([[0.1, 0.2], [0.5, 0.4], [0.9, 0.9]])).argsort().tolist()
    [0, 1, 2]
    """
    table = np.asarray(metrics, dtype=np.float64)
    if len(table) < 3:
        return np.full(len(table), np.nan)
    known = np.isfinite(table)
    filled = np.where(known, table, 0.0)
    count = np.maximum(known.sum(axis=0), 1)
    mean = filled.sum(axis=0) / count
    centred = np.where(known, table - mean, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / count)
    scaled = centred[:, spread > 1e-12] / spread[spread > 1e-12]
    if not scaled.size:
        return np.zeros(len(table))
    _, singular, loadings = np.linalg.svd(scaled, full_matrices=False)
    explained = singular**2 / (singular**2).sum()
    direction = np.where(loadings.sum(axis=1) < 0, -1.0, 1.0)
    projected = scaled @ (loadings * direction[:, None]).T
    score: NDArray[np.float64] = projected[:, :2] @ explained[:2]
    return score


def _coverage(pixels: _Pixels, matches: NucleusMatches, pixel_size_um: float) -> dict[str, float]:
    inside, n_mask, n_background = pixels.n_covered_foreground, pixels.n_covered, pixels.n_pixels - pixels.n_foreground
    spread = float(matches.cell_area_px2.std()) if len(matches) else float("nan")
    return {
        "NumberOfCellsPer100SquareMicrons": 100 * len(matches) / (pixels.n_pixels * pixel_size_um**2),
        "FractionOfForegroundOccupiedByCells": _ratio(inside, pixels.n_foreground),
        "1-FractionOfBackgroundOccupiedByCells": 1 - (_ratio(n_mask - inside, n_background) if n_background else 0.0),
        "FractionOfCellMaskInForeground": _ratio(inside, n_mask),
        # cells of one size have no logarithm of spread; below one pixel they count as equal
        "1/(ln(StandardDeviationOfCellSize)+1)": 1 / (np.log(max(spread, 1.0)) + 1) if np.isfinite(spread) else float("nan"),
        "FractionOfMatchedCellsAndNuclei": matches.matched_fraction,
    }


def _foreground_outside(pixels: _Pixels) -> dict[str, float]:
    """How alike the tissue is that no cell covers: a mixture of missed cells and background is not."""
    cv = first = float("nan")
    if pixels.outside.count > 1:
        cv = float(np.mean(pixels.outside.deviation / np.where(pixels.mean > 0, pixels.mean, 1)))
        first = _first_share(pixels.outside.scatter / np.outer(pixels.deviation, pixels.deviation))
    return {"1/(AvgCVForegroundOutsideCells+1)": 1 / (cv + 1), "FractionOfFirstPCForegroundOutsideCells": first}


def _clusterings(standard: NDArray[np.float64], random_state: int) -> list[NDArray[np.int32]]:
    """Cells in 1 to 10 clusters by their standardised mean intensities."""
    counts = [count for count in _CLUSTERS if count <= len(standard)]
    return [KMeans(count, n_init=1, random_state=random_state).fit(standard).labels_ for count in counts]


def _homogeneity(
    raw: NDArray[np.float64], standard: NDArray[np.float64], clusterings: list[NDArray[np.int32]], random_state: int
) -> dict[str, float]:
    """How alike the cells of a cluster are in a compartment, averaged over the numbers of clusters; cells without it have no say."""
    there = np.isfinite(raw).all(axis=1)
    raw, standard = raw[there], standard[there]
    variations, firsts, silhouettes = [], [], []
    for clustering in clusterings:
        labels = clustering[there]
        groups = [labels == cluster for cluster in np.unique(labels)]
        weights = [group.mean() for group in groups]
        variations.append(sum(w * _variation(raw[group]) for w, group in zip(weights, groups, strict=True)))
        firsts.append(sum(w * _first_component(standard[group]) for w, group in zip(weights, groups, strict=True)))
        if 1 < len(groups) < len(labels):
            size = _MAX_SILHOUETTE if len(labels) > _MAX_SILHOUETTE else None
            with config_context(working_memory=_SILHOUETTE_MB):
                silhouettes.append(float(silhouette_score(standard, labels, sample_size=size, random_state=random_state)))
    nothing = float("nan")
    values = (
        1 / (float(np.mean(variations)) + 1) if variations else nothing,
        float(np.mean(firsts)) if firsts else nothing,
        float(np.mean(silhouettes)) if silhouettes else nothing,
    )
    return dict(zip(_PART_METRICS, values, strict=True))


def _variation(values: NDArray[np.float64]) -> float:
    """Coefficient of variation, averaged over the channels that have any signal."""
    mean = values.mean(axis=0)
    used = mean != 0
    return float((values.std(axis=0)[used] / mean[used]).mean()) if used.any() else 0.0


def _first_component(values: NDArray[np.float64]) -> float:
    """Fraction of the variance along the first principal component; 1 where there is none."""
    if len(values) < 2:
        return 1.0
    return _first_share(np.cov(values, rowvar=False).reshape(values.shape[1], values.shape[1]))


def _first_share(covariance: NDArray[np.float64]) -> float:
    eigenvalues = np.linalg.eigvalsh(covariance)
    total = float(eigenvalues.sum())
    return float(eigenvalues[-1] / total) if total > 1e-12 else 1.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
