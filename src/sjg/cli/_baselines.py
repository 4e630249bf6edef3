"""Nuclei grown by a fixed distance: what any segmentation has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sjg import tl

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: metrics of which less is better; all others that are scores are better when larger
_LESS_IS_BETTER = ("coexpression_rate",)
#: metrics that describe and do not judge: they grow with the masks
_DESCRIPTIONS = ("n_cells", "median_", "fraction_assigned", "cell_calling_score")


def expansion_scores(
    sdata: SpatialData, nuclei_key: str, distances_px: Sequence[int], *, truth_key: str | None, reference: str | None
) -> pd.DataFrame:
    """Metrics (rows) of nuclei expanded by each distance (columns; 0 = nuclei only); `sdata` is not changed."""
    from skimage.segmentation import expand_labels
    from spatialdata import SpatialData
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import get_transformation

    nuclei = sdata.labels[nuclei_key]
    ids = nuclei.to_numpy()
    scratch = SpatialData(
        labels={key: sdata.labels[key] for key in (nuclei_key, truth_key) if key is not None},
        points=dict(sdata.points.items()),
        tables={} if reference is None else {reference: sdata.tables[reference]},
    )
    columns = {}
    for distance_px in distances_px:
        scratch.labels["expanded"] = Labels2DModel.parse(
            expand_labels(ids, distance_px) if distance_px else ids,
            dims=("y", "x"),
            transformations=get_transformation(nuclei, get_all=True),
        )
        scores = tl.evaluate(scratch, "expanded", truth_key=truth_key, reference=reference)
        columns[distance_px] = scores.set_index("metric")["value"]
        del scratch.labels["expanded"]
    return pd.DataFrame(columns)


def beside_baselines(run: pd.DataFrame, expansions: pd.DataFrame, *, headline: str) -> pd.DataFrame:
    """Metrics of a run beside nuclei only and the best expansion.

    Parameters
    ----------
    run
        What ``tl.evaluate`` returned for the run.
    expansions
        What :func:`expansion_scores` returned.
    headline
        The metric whose best expansion stands for all in rows that describe and do not judge.

    Returns
    -------
    Data frame with the columns ``metric``, ``sjg``, ``nuclei``, ``expansion`` and ``expansion_px``: the expansion that is best in that
    metric (NaN where there is none). A metric by posterior is compared with the same metric of the masks, as a mask is all that an
    expansion has. Metrics that are not defined on these data are left out.
    """
    rows = []
    for name, value in zip(run["metric"], run["value"], strict=True):
        base = name.removesuffix("_posterior")
        if base not in expansions.index:
            rows.append((name, value, float("nan"), float("nan"), float("nan")))
            continue
        scores = expansions.loc[base]
        grown = scores.drop(0)
        best = _best(grown, base) if not base.startswith(_DESCRIPTIONS) else _best(expansions.loc[headline].drop(0), headline)
        rows.append((name, value, scores[0], grown[best], int(best)))
    table = pd.DataFrame(rows, columns=["metric", "sjg", "nuclei", "expansion", "expansion_px"])
    return table.dropna(subset=["sjg", "nuclei", "expansion"], how="all").reset_index(drop=True)


def _best(scores: pd.Series[float], name: str) -> int:
    # a cell calling score is infinite where expansion leaves nothing around the cells: no merit
    finite = scores.replace([np.inf, -np.inf], np.nan).dropna()
    if finite.empty:
        return int(scores.index[0])
    return int(finite.idxmin() if name in _LESS_IS_BETTER else finite.idxmax())


def aligned_rows(scores: pd.DataFrame, formats: Mapping[str, str]) -> str:
    """A data frame as aligned text; `formats` names the columns and their format."""
    texts = [[name.replace("_", " ") for name in formats]]
    for record in scores[list(formats)].to_dict("records"):
        texts.append(
            ["-" if value != value else format(value, form) for value, form in zip(record.values(), formats.values(), strict=True)]
        )
    widths = [max(len(row[i]) for row in texts) for i in range(len(formats))]
    return "\n".join(
        "  ".join(text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(row, widths, strict=True)))
        for row in texts
    )
