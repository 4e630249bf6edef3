"""Quality of a segmentation without truth: the 14 metrics of CellSegmentationEvaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import morphological_geodesic_active_contour
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from sjg.core import InputError
from sjg.imaging._match import NucleusMatches, match_nuclei, repaired_labels

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


def tissue_foreground(channels: NDArray[Any], *, min_channels: int = 1) -> NDArray[np.bool_]:
    """Tissue, as CellSegmentationEvaluator separates it from the background.

    Pixels above the mean of at least `min_channels` channels, closed by 1, opened by 2, closed by 20 and opened by 10 px; holes under
    20,000 px are filled, five steps of a geodesic active contour settle the outline, holes under 1,000 px are filled.

    Parameters
    ----------
    channels
        (c, y, x) intensities, those that were segmented.
    """
    above = np.sum([channel > channel.mean(dtype=np.float64) for channel in channels], axis=0)
    raw = above >= min_channels
    mask = _opened(_closed(_opened(_closed(raw, 1), 2), 20), 10)
    mask = _filled(mask, 20_000)
    # the contour grows out of the background, held where the raw mask begins
    background = morphological_geodesic_active_contour(
        1.0 - raw, 5, init_level_set=(~mask).astype(np.int8), smoothing=1, balloon=0.8, threshold=0.5
    )
    return _filled(background == 0, 1000)


def quality_metrics(
    cells: NDArray[Any],
    nuclei: NDArray[Any],
    channels: NDArray[Any],
    foreground: NDArray[np.bool_],
    *,
    pixel_size_um: float,
    random_state: int = 0,
) -> dict[str, float]:
    """The 14 metrics, each higher for a better segmentation.

    Cells and nuclei are paired and repaired first (:func:`match_nuclei`, published rule); all but the matched fraction are about the
    pairs. Standardisation is over the whole channel, where the original code standardises each image column by itself.

    Parameters
    ----------
    cells, nuclei
        (y, x) labels.
    channels
        (c, y, x) intensities.
    foreground
        (y, x) tissue, see :func:`tissue_foreground`.
    pixel_size_um
        Side of a pixel.
    random_state
        Seed of the k-means clusterings.

    Returns
    -------
    dict by the names in ``QUALITY_METRICS``; NaN where a metric is not defined, such as silhouettes of fewer than three cells.

    References
    ----------
    Chen & Murphy (2023), Molecular Biology of the Cell 34:ar50.
    """
    if not cells.shape == nuclei.shape == foreground.shape == channels.shape[1:]:
        raise InputError("cells, nuclei, foreground and channels must have one shape.")
    matches = match_nuclei(cells, nuclei, assignment="greedy")
    cell, nucleus, cytoplasm = repaired_labels(cells, nuclei, matches)
    values = _coverage(cell, matches, foreground, pixel_size_um)
    values |= _foreground_outside(foreground & (cell == 0), channels)
    clusterings = _clusterings(_means(cell, _standard(channels), len(matches)), random_state)
    for part, labels in zip(_PARTS, (nucleus, cytoplasm), strict=True):
        raw, standard = (_means(labels, scaled, len(matches)) for scaled in (channels, _standard(channels)))
        for name, value in _homogeneity(raw, standard, clusterings, random_state).items():
            values[f"{part}: {name}"] = value
    return {name: values[name] for name in QUALITY_METRICS}


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


def _coverage(cell: NDArray[np.int32], matches: NucleusMatches, foreground: NDArray[np.bool_], pixel_size_um: float) -> dict[str, float]:
    mask = cell > 0
    inside = int((mask & foreground).sum())
    n_foreground, n_background, n_mask = int(foreground.sum()), int((~foreground).sum()), int(mask.sum())
    spread = float(matches.cell_area_px2.std()) if len(matches) else float("nan")
    return {
        "NumberOfCellsPer100SquareMicrons": 100 * len(matches) / (cell.size * pixel_size_um**2),
        "FractionOfForegroundOccupiedByCells": _ratio(inside, n_foreground),
        "1-FractionOfBackgroundOccupiedByCells": 1 - (_ratio(n_mask - inside, n_background) if n_background else 0.0),
        "FractionOfCellMaskInForeground": _ratio(inside, n_mask),
        # cells of one size have no logarithm of spread; below one pixel they count as equal
        "1/(ln(StandardDeviationOfCellSize)+1)": 1 / (np.log(max(spread, 1.0)) + 1) if np.isfinite(spread) else float("nan"),
        "FractionOfMatchedCellsAndNuclei": matches.matched_fraction,
    }


def _foreground_outside(outside: NDArray[np.bool_], channels: NDArray[Any]) -> dict[str, float]:
    """How alike the tissue is that no cell covers: a mixture of missed cells and background is not."""
    cv = first = float("nan")
    if outside.sum() > 1:
        pixels = channels[:, outside].astype(np.float64)
        mean = channels.reshape(len(channels), -1).mean(axis=1, dtype=np.float64)
        cv = float(np.mean(pixels.std(axis=1) / np.where(mean > 0, mean, 1)))
        spread = channels.reshape(len(channels), -1).std(axis=1, dtype=np.float64)
        first = _first_component(pixels.T / np.where(spread > 0, spread, 1))
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
    covariance = np.cov(values, rowvar=False).reshape(values.shape[1], values.shape[1])
    eigenvalues = np.linalg.eigvalsh(covariance)
    total = float(eigenvalues.sum())
    return float(eigenvalues[-1] / total) if total > 1e-12 else 1.0


def _means(labels: NDArray[np.int32], channels: NDArray[Any], count: int) -> NDArray[np.float64]:
    """(count, channels) mean of each channel in labels 1..count; NaN without pixels."""
    flat = np.flatnonzero(labels)
    ids = labels.ravel()[flat]
    size = np.bincount(ids, minlength=count + 1)[1:]
    with np.errstate(invalid="ignore"):
        return np.column_stack([np.bincount(ids, channel.ravel()[flat], minlength=count + 1)[1:] / size for channel in channels])


def _standard(channels: NDArray[Any]) -> NDArray[np.float64]:
    flat = channels.reshape(len(channels), -1).astype(np.float64)
    spread = flat.std(axis=1, keepdims=True)
    scaled: NDArray[np.float64] = ((flat - flat.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)).reshape(channels.shape)
    return scaled


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _grown(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Dilation by a disk; a distance transform takes the same time for every radius."""
    if not mask.any():
        return mask
    grown: NDArray[np.bool_] = ndimage.distance_transform_edt(~mask) <= radius_px
    return grown


def _closed(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    return ~_grown(~_grown(mask, radius_px), radius_px)


def _opened(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    return ~_closed(~mask, radius_px)


def _filled(mask: NDArray[np.bool_], max_area_px2: int) -> NDArray[np.bool_]:
    """Fill the parts of the background (8 neighbours) smaller than an area."""
    holes, count = ndimage.label(~mask, structure=np.ones((3, 3)))
    small = np.bincount(holes.ravel(), minlength=count + 1) < max_area_px2
    small[0] = False
    filled: NDArray[np.bool_] = mask | small[holes]
    return filled
