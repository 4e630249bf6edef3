from __future__ import annotations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spatialdata import SpatialData
from spatialdata.models import PointsModel
from spatialdata.transformations import Affine, Identity

from sjg.access import read_molecules
from sjg.core import Grid, InputError

GRID = Grid(shape=(90, 120), matrix=np.eye(3))


def _frame(n: int = 400, seed: int = 0, genes: tuple[str, ...] = ("Zfp", "Actb", "Gad1")) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": generator.uniform(0, 120, n), "y": generator.uniform(0, 90, n)})
    return frame.assign(gene=pd.Categorical(generator.choice(genes, n)))


def _sdata(frame: pd.DataFrame, transformation: object = None, npartitions: int = 3, feature_key: str | None = "gene") -> SpatialData:
    points = PointsModel.parse(
        frame, feature_key=feature_key, transformations={"global": transformation or Identity()}, npartitions=npartitions
    )
    return SpatialData(points={"t": points})


def _names(molecules) -> list[str]:
    return [molecules.gene_names[code] for code in molecules.gene]


@pytest.mark.parametrize("npartitions", [1, 3, 7])
def test_positions_genes_and_rows(npartitions):
    frame = _frame()
    molecules, report = read_molecules(_sdata(frame, npartitions=npartitions), "t", GRID)
    assert molecules.gene_names == ("Actb", "Gad1", "Zfp")
    np.testing.assert_array_equal(report.row, np.arange(400))
    np.testing.assert_allclose(molecules.yx_px, frame[["y", "x"]], rtol=1e-6)
    assert _names(molecules) == frame["gene"].tolist()
    assert sum(report.partition_sizes) == report.n_total == report.n_kept == 400
    assert len(report.partition_sizes) == npartitions
    assert molecules.yx_px.dtype == np.float32
    assert molecules.gene.dtype == np.int32


def test_rotated_frames():
    frame = _frame()
    angle = 0.3
    matrix = np.array([[9 * np.cos(angle), -9 * np.sin(angle), 700], [9 * np.sin(angle), 9 * np.cos(angle), -80], [0, 0, 1]])
    sdata = _sdata(frame, Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y")))
    molecules, _ = read_molecules(sdata, "t", Grid(shape=(180, 240), matrix=matrix @ np.diag([0.5, 0.5, 1])))
    np.testing.assert_allclose(molecules.yx_px, 2 * frame[["y", "x"]], atol=1e-3)


@given(
    seed=st.integers(0, 10_000),
    n_outside=st.integers(0, 20),
    n_bad=st.integers(0, 5),
    n_low=st.integers(0, 20),
    n_control=st.integers(0, 20),
)
def test_every_row_is_counted_once(seed, n_outside, n_bad, n_low, n_control):
    frame = _frame(200, seed)
    frame["gene"] = frame["gene"].astype(str)
    frame["qv"] = 40.0
    generator = np.random.default_rng(seed)
    rows = generator.permutation(200)
    outside, bad, low, control = np.split(rows, np.cumsum([n_outside, n_bad, n_low]))[0:4]
    control = control[:n_control]
    frame.loc[outside, "x"] += 500
    frame.loc[bad, "y"] = generator.choice([np.nan, np.inf, -np.inf], n_bad)
    frame.loc[low, "qv"] = 19.9
    frame.loc[control, "gene"] = generator.choice(["NegControlProbe_1", "BLANK_0001", "Blank-5", "UnassignedCodeword_2"], n_control)
    with pytest.warns(UserWarning, match=f"{n_bad} of 200 transcripts dropped") if n_bad else _nothing():
        molecules, report = read_molecules(_sdata(frame), "t", GRID)
    assert report.counts() == {
        "n_total": 200,
        "n_nonfinite": n_bad,
        "n_low_quality": n_low,
        "n_control": n_control,
        "n_unnamed": 0,
        "n_outside": n_outside,
        "n_kept": 200 - n_outside - n_bad - n_low - n_control,
    }
    kept = np.setdiff1d(np.arange(200), np.concatenate([outside, bad, low, control]))
    np.testing.assert_array_equal(report.row, kept)
    assert _names(molecules) == frame.loc[kept, "gene"].tolist()


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


CONTROLS = [
    "NegControlProbe_00042",
    "NegControlCodeword_0500",
    "BLANK_0013",
    "Blank-1",
    "UnassignedCodeword_0001",
    "DeprecatedCodeword_0010",
    "antisense_PROKR2",
    "NegPrb3",
    "Negative1",
    "Negative01",
    "SystemControl7",
    "FalseCode12",
    "Intergenic_Region_3",
]


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_are_left_out(name):
    frame = _frame()
    frame["gene"] = frame["gene"].astype(str).where(frame.index % 4 > 0, name)
    molecules, report = read_molecules(_sdata(frame), "t", GRID)
    assert report.n_control == 100
    assert name not in molecules.gene_names
    kept, _ = read_molecules(_sdata(frame), "t", GRID, control_pattern=None)
    assert name in kept.gene_names


@pytest.mark.parametrize("name", ["Negr1", "Blnk", "Deptor", "Sys1", "UNC5D", "ANTXR1", "NEGR1", "Antxr1"])
def test_real_genes_that_look_like_controls_stay(name):
    molecules, report = read_molecules(_sdata(_frame(genes=("Actb", name))), "t", GRID)
    assert name in molecules.gene_names
    assert report.n_control == 0


def test_is_gene_column_is_obeyed():
    frame = _frame().assign(is_gene=lambda f: f["gene"] != "Zfp")
    molecules, report = read_molecules(_sdata(frame), "t", GRID)
    assert molecules.gene_names == ("Actb", "Gad1")
    assert report.n_control == (frame["gene"] == "Zfp").sum()


def test_quality_limit_can_be_moved_and_missing_quality_is_low():
    frame = _frame().assign(qv=np.arange(400) % 40 * 1.0)
    frame.loc[0, "qv"] = np.nan
    assert read_molecules(_sdata(frame), "t", GRID)[1].n_low_quality == 200
    assert read_molecules(_sdata(frame), "t", GRID, min_qv=10)[1].n_low_quality == 100
    assert read_molecules(_sdata(frame), "t", GRID, min_qv=None)[1].n_low_quality == 0


@pytest.mark.parametrize("kind", ["category", "object", "bytes", "string", "string[pyarrow]", "unused", "unknown"])
def test_gene_column_of_any_kind(kind):
    frame = _frame()
    expected = frame["gene"].astype(str).tolist()
    if kind == "bytes":
        frame["gene"] = [name.encode() for name in expected]
    elif kind == "unused":
        frame["gene"] = frame["gene"].cat.add_categories(["Never", "Blank-9"])
    elif kind != "unknown":
        frame["gene"] = frame["gene"].astype(kind)
    points = dd.from_pandas(frame, npartitions=3)
    if kind == "unknown":
        points["gene"] = points["gene"].astype(str).astype("category")
    sdata = SpatialData(points={"t": PointsModel.parse(points)})
    molecules, _ = read_molecules(sdata, "t", GRID, feature_key="gene")
    assert _names(molecules) == expected
    assert molecules.gene_names == ("Actb", "Gad1", "Zfp")


def test_rows_without_a_gene_are_counted():
    frame = _frame()
    frame["gene"] = frame["gene"].astype(object)
    frame.loc[[3, 5], "gene"] = None
    frame.loc[7, "gene"] = ""
    sdata = SpatialData(points={"t": PointsModel.parse(dd.from_pandas(frame, npartitions=2))})
    molecules, report = read_molecules(sdata, "t", GRID, feature_key="gene")
    assert report.n_unnamed == 3
    assert len(molecules) == 397


def test_repeated_and_unsorted_index():
    frame = _frame()
    points = dd.concat([dd.from_pandas(frame, npartitions=2), dd.from_pandas(frame, npartitions=1)])
    sdata = SpatialData(points={"t": PointsModel.parse(points, feature_key="gene")})
    molecules, report = read_molecules(sdata, "t", GRID)
    np.testing.assert_array_equal(report.row, np.arange(800))
    assert _names(molecules) == frame["gene"].tolist() * 2


def test_depth_is_ignored_and_said_once(caplog):
    with caplog.at_level("INFO", logger="sjg"):
        molecules, _ = read_molecules(_sdata(_frame().assign(z=3.0)), "t", GRID)
    assert len(molecules) == 400
    assert sum("z is ignored" in record.message for record in caplog.records) == 1


def test_border_positions_stay_inside():
    frame = pd.DataFrame({"x": [0.0, np.nextafter(4000, 0), 4000.0], "y": [0.0, np.nextafter(3000, 0), 1.0], "gene": ["a", "b", "c"]})
    molecules, report = read_molecules(_sdata(frame), "t", Grid(shape=(3000, 4000), matrix=np.eye(3)))
    assert report.n_outside == 1
    rows = np.floor(molecules.yx_px).astype(int)
    assert rows.tolist() == [[0, 0], [2999, 3999]]


def test_zero_transcripts():
    with pytest.raises(InputError, match=r"points\['t'\] has no transcripts"):
        read_molecules(_sdata(_frame()[:0], npartitions=1), "t", GRID)


def test_too_many_non_finite_coordinates():
    frame = _frame(100)
    frame.loc[:5, "x"] = np.nan
    with pytest.raises(InputError, match=r"6 of 100 transcripts \(6.0%\)"):
        read_molecules(_sdata(frame), "t", GRID)


def test_no_overlap_names_both_extents():
    frame = _frame().assign(x=lambda f: f["x"] * 0.1 + 10_000)
    with pytest.raises(InputError, match=r"do not overlap.*image covers x 0 to 120, y 0 to 90;.*covers x 10000.* to 10012") as caught:
        read_molecules(_sdata(frame), "t", GRID)
    assert "'global'" in str(caught.value)


def test_filters_that_leave_nothing():
    with pytest.raises(InputError, match="No transcript .* passes the filters.*'n_low_quality': 400"):
        read_molecules(_sdata(_frame().assign(qv=3.0)), "t", GRID)


def test_one_gene():
    with pytest.raises(InputError, match=r"has 1 gene \(Actb\)"):
        read_molecules(_sdata(_frame(genes=("Actb",))), "t", GRID)
    assert read_molecules(_sdata(_frame(genes=("Actb",))), "t", GRID, min_genes=1)[0].gene_names == ("Actb",)


def test_unknown_gene_column_lists_the_columns():
    with pytest.raises(InputError, match=r"no column 'target'.*'x', 'y', 'gene'"):
        read_molecules(_sdata(_frame()), "t", GRID, feature_key="target")
