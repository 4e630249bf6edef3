"""The same object with the transcripts of some genes alone."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from typing import TYPE_CHECKING

import pandas as pd

from sjg.access._choose import choose_feature_key

if TYPE_CHECKING:
    from spatialdata import SpatialData


def with_genes(sdata: SpatialData, points_key: str, genes: Collection[str], *, feature_key: str | None = None) -> SpatialData:
    """A new object with all elements of `sdata` (shared, not copied) but only the transcripts of `genes`, lazily.

    It has no store, so nothing that is added to it reaches the one of `sdata`.
    """
    from spatialdata import SpatialData

    points = sdata.points[points_key]
    column = choose_feature_key(sdata, points_key, feature_key)
    names = frozenset(genes)

    def keep(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame[column].map(lambda value: value.decode() if isinstance(value, bytes) else str(value)).isin(names)]

    kept = points.map_partitions(keep, meta=points._meta)
    for name, value in points.attrs.items():
        kept.attrs[name] = deepcopy(value)
    elements = {name: element for _, name, element in sdata.gen_elements()}
    return SpatialData.init_from_elements({**elements, points_key: kept})
