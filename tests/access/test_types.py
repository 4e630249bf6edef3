from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from spatialdata.models import TableModel

from sjg.access import annotating_tables, read_nuclei_types
from sjg.core import AmbiguousElementError, InputError, MissingElementError

IDS = np.array([3, 10, 11, 500])


def _table(ids: list, types: object, region: str = "nuclei") -> AnnData:
    obs = pd.DataFrame({"region": pd.Categorical([region] * len(ids)), "id": ids, "type": types}, index=[str(i) for i in range(len(ids))])
    return TableModel.parse(AnnData(obs=obs), region=region, region_key="region", instance_key="id")


def test_types_follow_the_ids_of_the_run(make_sdata):
    names, codes = read_nuclei_types(make_sdata(), "nuclei", "type", np.array([500, 3, 77, 11]))
    assert names == ("B", "T")
    assert codes.tolist() == [0, 1, -1, 1]
    assert codes.dtype == np.int32


def test_only_types_that_occur_in_the_order_of_the_categories(make_sdata):
    sdata = make_sdata()
    types = pd.Categorical(["z", "a", None, "a"], categories=["z", "unused", "a"])
    sdata.tables["nuclei_table"] = _table(IDS.tolist(), types)
    names, codes = read_nuclei_types(sdata, "nuclei", "type", IDS)
    assert names == ("z", "a")
    assert codes.tolist() == [0, 1, -1, 1]
    # a type whose nuclei are not in the run goes too
    assert read_nuclei_types(sdata, "nuclei", "type", IDS[1:])[0] == ("a",)


@pytest.mark.parametrize("types", [["b", "a", None, "a"], [2, 1, 2, 1]])
def test_columns_without_categories(make_sdata, types):
    sdata = make_sdata()
    sdata.tables["nuclei_table"] = _table(IDS.tolist(), types)
    names, codes = read_nuclei_types(sdata, "nuclei", "type", IDS)
    expected = [None if value is None else str(value) for value in types]
    assert [None if code < 0 else names[code] for code in codes] == expected
    assert names == tuple(sorted(names))


def test_text_ids(make_sdata):
    sdata = make_sdata()
    sdata.tables["nuclei_table"] = _table(["aa-1", "bb-1"], ["x", "y"])
    assert read_nuclei_types(sdata, "nuclei", "type", np.array(["bb-1", "aa-1"], dtype=object))[1].tolist() == [1, 0]


def test_errors_say_what_to_do(make_sdata):
    sdata = make_sdata()
    with pytest.raises(MissingElementError, match=r"no table annotates 'other' .*nuclei_table.*set_table_annotates_spatialelement"):
        read_nuclei_types(sdata, "other", "type", IDS)
    with pytest.raises(InputError, match=r"'kind' is no column.*'type'"):
        read_nuclei_types(sdata, "nuclei", "kind", IDS)
    with pytest.raises(InputError, match="No nucleus of 'nuclei' has a type"):
        read_nuclei_types(sdata, "nuclei", "type", IDS + 10_000)
    sdata.tables["second"] = _table(IDS.tolist(), list("abcd"))
    with pytest.raises(AmbiguousElementError, match="'nuclei_table', 'second'"):
        read_nuclei_types(sdata, "nuclei", "type", IDS)
    assert read_nuclei_types(sdata, "nuclei", "type", IDS, table_key="second")[0] == ("a", "b", "c", "d")
    with pytest.raises(MissingElementError, match="table_key='third'"):
        read_nuclei_types(sdata, "nuclei", "type", IDS, table_key="third")
    # spatialdata refuses such a table when it is made, not when it is changed
    sdata.tables["second"].obs["id"] = 3
    with pytest.raises(InputError, match="several rows for nucleus 3"):
        read_nuclei_types(sdata, "nuclei", "type", IDS, table_key="second")
    assert sorted(annotating_tables(sdata, "nuclei")) == ["nuclei_table", "second"]
