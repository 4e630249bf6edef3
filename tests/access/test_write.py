from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image2DModel
from spatialdata.transformations import Affine, Identity, Scale, get_transformation, set_transformation

from sjg.access import _attach as attach_module
from sjg.access import check_new_keys, check_output_keys, grid_transformations, read_molecules, working_grid, write_segmentation
from sjg.access._store import StoreChange
from sjg.core import ExistingElementError, Grid, InputError

OUTPUTS = ("sjg_cells", "sjg_boundaries", "sjg_table")


def _write(sdata, run, **options):
    arguments = {
        "molecules": run.molecules,
        "report": run.report,
        "image_key": "dapi",
        "points_key": "transcripts",
        "source_ids": run.source_ids,
    }
    write_segmentation(sdata, run.segmentation, run.grid, **(arguments | options))


def _fingerprint(path: Path) -> dict[str, str]:
    """Digest of every file of a store."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _elements(sdata) -> dict[str, int]:
    return {f"{kind}/{key}": id(element) for kind, key, element in sdata.gen_elements()}


def _check_outputs(sdata, run, key="sjg"):
    """Everything that API.md and CONVENTIONS.md say about the outputs."""
    segmentation = run.segmentation
    labels, table, shapes = sdata[f"{key}_cells"], sdata[f"{key}_table"], sdata[f"{key}_boundaries"]
    n = len(segmentation.cell_type)
    np.testing.assert_array_equal(labels.to_numpy(), segmentation.labels)
    assert labels.dtype == np.int32
    assert labels.dims == ("y", "x")
    points = sdata["transcripts"].compute()
    cell, confidence = points[f"{key}_cell_id"].to_numpy(), points[f"{key}_confidence"].to_numpy()
    np.testing.assert_array_equal(cell[run.report.row], segmentation.molecule_cell)
    np.testing.assert_array_equal(confidence[run.report.row], segmentation.molecule_confidence)
    assert cell.dtype == np.int32
    assert confidence.dtype == np.float32
    others = np.setdiff1d(np.arange(len(points)), run.report.row)
    assert (cell[others] == 0).all()
    assert (confidence[others] == 0).all()
    assert points["cell_id"].iloc[5] == "vendor-5"
    # X counts exactly the transcripts of the cell
    counted = pd.crosstab(cell[cell > 0], points["gene"].astype(str)[cell > 0]).reindex(
        index=range(1, n + 1), columns=table.var_names, fill_value=0
    )
    np.testing.assert_array_equal(table.X.toarray(), counted)
    np.testing.assert_array_equal(table.layers["counts"].toarray(), counted)
    np.testing.assert_array_equal(table.obs["n_transcripts"], counted.sum(axis=1))
    assert table.X.format == "csr"
    assert table.X.dtype.kind == "i"
    assert table.obs["cell_id"].tolist() == list(range(1, n + 1))
    assert table.obs["nucleus_id"].tolist() == run.source_ids.tolist()
    assert (table.obs["region"] == f"{key}_cells").all()
    assert table.obs["cell_type"].tolist() == [segmentation.type_names[code] for code in segmentation.cell_type]
    assert isinstance(table.obs["cell_type"].dtype, pd.CategoricalDtype)
    np.testing.assert_allclose(table.obs["cell_type_confidence"], segmentation.cell_type_confidence)
    area = np.bincount(segmentation.labels.ravel())[1:] * run.grid.pixel_size_um**2
    np.testing.assert_allclose(table.obs["area_um2"], area)
    # polygons, masks and centroids agree in the coordinate system
    assert shapes.index.tolist() == list(range(1, n + 1))
    assert shapes.geometry.is_valid.all()
    assert (shapes.geometry.geom_type == "Polygon").all()
    matrix = get_transformation(shapes).to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(matrix, run.grid.matrix)
    moved = shapely.transform(shapes.geometry.to_numpy(), lambda xy: xy @ matrix[:2, :2].T + matrix[:2, 2])
    np.testing.assert_allclose(shapely.area(moved), area / run.grid.pixel_size_um**2 * np.linalg.det(run.grid.matrix))
    centroids = shapely.get_coordinates(shapely.centroid(moved))
    np.testing.assert_allclose(table.obsm["spatial"], centroids)
    importance = table.varm["gene_importance"]
    assert isinstance(importance, pd.DataFrame)
    assert importance.columns.tolist() == list(segmentation.type_names)
    np.testing.assert_allclose(importance, segmentation.gene_importance)
    assert "spatial" not in table.uns
    assert len(table.uns["cell_type_colors"]) == len(table.obs["cell_type"].cat.categories)
    uns = table.uns["sjg"]
    assert uns["parameters"]["preset"] == "fast"
    assert uns["parameters"]["max_epochs"] == "none"
    assert np.asarray(uns["history"]["phase"]).tolist() == ["warm", "self"]
    np.testing.assert_array_equal(uns["history"]["assigned"], [np.nan, 0.4])
    np.testing.assert_array_equal(uns["network"]["layers"]["conv.weight"], segmentation.network["layers"]["conv.weight"])
    assert uns["transcripts"]["n_kept"] == len(run.molecules)
    assert uns["extra"] == 1


@pytest.fixture
def written(make_sdata, make_run):
    sdata = make_sdata()
    run = make_run(sdata)
    _write(sdata, run, uns={"extra": 1})
    return sdata, run


def test_outputs_in_memory(written):
    _check_outputs(*written)


def test_outputs_survive_write_and_read(written, tmp_path):
    sdata, run = written
    sdata.write(tmp_path / "out.zarr")
    again = read_zarr(tmp_path / "out.zarr")
    _check_outputs(again, run)
    _check_outputs(sdata, run)


def test_outputs_go_to_the_store_that_backs_the_object(make_sdata, make_run, tmp_path):
    make_sdata().write(tmp_path / "in.zarr")
    before = _fingerprint(tmp_path / "in.zarr")
    sdata = read_zarr(tmp_path / "in.zarr")
    held = sdata["transcripts"]
    run = make_run(sdata)
    _write(sdata, run, uns={"extra": 1})
    _check_outputs(sdata, run)
    again = read_zarr(tmp_path / "in.zarr")
    _check_outputs(again, run)
    assert all(sdata.elements_are_self_contained().values())
    # nothing else changed, nothing is left behind
    after = _fingerprint(tmp_path / "in.zarr")
    changed = {name for name, digest in before.items() if after.get(name) != digest}
    assert all(name.endswith(".parquet") or name in ("zarr.json", "labels/zarr.json") for name in changed), changed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr"]
    # points that someone still holds read the same rows
    np.testing.assert_array_equal(held.compute()["x"], sdata["transcripts"].compute()["x"])
    # a second run beside the first, and the first once more
    _write(sdata, run, uns={"extra": 1}, key_added="other")
    _write(sdata, run, uns={"extra": 1}, overwrite=True)
    for key in ("sjg", "other"):
        _check_outputs(sdata, run, key)
        _check_outputs(read_zarr(tmp_path / "in.zarr"), run, key)


def test_store_is_left_alone_without_to_disk(make_sdata, make_run, tmp_path):
    make_sdata().write(tmp_path / "in.zarr")
    before = _fingerprint(tmp_path / "in.zarr")
    sdata = read_zarr(tmp_path / "in.zarr")
    run = make_run(sdata)
    _write(sdata, run, uns={"extra": 1}, to_disk=False)
    _check_outputs(sdata, run)
    assert _fingerprint(tmp_path / "in.zarr") == before


@pytest.mark.parametrize(("stage", "second"), [("tables", False), ("labels", True), ("shapes", True), ("points", True), ("tables", True)])
def test_failure_while_writing_restores_object_and_store(make_sdata, make_run, tmp_path, monkeypatch, stage, second):
    make_sdata().write(tmp_path / "in.zarr")
    sdata = read_zarr(tmp_path / "in.zarr")
    run = make_run(sdata)
    if second:
        _write(sdata, run, uns={"extra": 1})
    before, elements = _fingerprint(tmp_path / "in.zarr"), _elements(sdata)
    real = SpatialData.write_element

    def fail(self, element_name, *args, **kwargs):
        real(self, element_name, *args, **kwargs)
        if element_name in getattr(self, stage):
            raise OSError("disk full")

    def fail_points(*args, **kwargs):
        attach_module_rewrite(*args, **kwargs)
        raise OSError("disk full")

    attach_module_rewrite = attach_module._rewrite_points
    if stage == "points":
        monkeypatch.setattr(attach_module, "_rewrite_points", fail_points)
    else:
        monkeypatch.setattr(SpatialData, "write_element", fail)
    other = replace(run, segmentation=replace(run.segmentation, cell_type=1 - run.segmentation.cell_type))
    with pytest.raises(OSError, match="disk full"):
        _write(sdata, other, uns={"extra": 1}, overwrite=True)
    assert _fingerprint(tmp_path / "in.zarr") == before
    assert _elements(sdata) == elements
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr"]
    if second:
        _check_outputs(sdata, run)
        _check_outputs(read_zarr(tmp_path / "in.zarr"), run)
    else:
        assert "sjg_cell_id" not in sdata["transcripts"].columns
    # and the way is free again
    monkeypatch.undo()
    _write(sdata, other, uns={"extra": 1}, overwrite=True)
    _check_outputs(read_zarr(tmp_path / "in.zarr"), other)


@pytest.mark.parametrize(("call", "second"), [(2, False), (4, False), (4, True)])
def test_a_process_killed_while_it_writes_leaves_a_store_to_go_on_with(make_sdata, make_run, tmp_path, monkeypatch, call, second):
    make_sdata().write(tmp_path / "in.zarr")
    sdata = read_zarr(tmp_path / "in.zarr")
    run = make_run(sdata)
    if second:
        _write(sdata, run, uns={"extra": 1})
    real, calls = SpatialData.write_consolidated_metadata, []

    def killed(self):
        calls.append(self)
        if len(calls) == call:
            raise KeyboardInterrupt
        real(self)

    # nothing is tidied up after a kill
    monkeypatch.setattr(StoreChange, "__exit__", lambda *args: None)
    # called at the start, after each element and at the end
    monkeypatch.setattr(SpatialData, "write_consolidated_metadata", killed)
    with pytest.raises(KeyboardInterrupt):
        _write(sdata, run, uns={"extra": 1}, overwrite=True)
    monkeypatch.undo()
    again = read_zarr(tmp_path / "in.zarr")
    assert "sjg_cells" not in again
    run = make_run(again)
    _write(again, run, uns={"extra": 1}, overwrite="sjg_cell_id" in again["transcripts"].columns)
    _check_outputs(read_zarr(tmp_path / "in.zarr"), run)


def test_failure_in_memory_restores_the_object(make_sdata, make_run, monkeypatch):
    sdata = make_sdata()
    run = make_run(sdata)
    elements = _elements(sdata)

    def fail(self, key, value):
        raise ValueError("no tables today")

    monkeypatch.setattr(type(sdata.tables), "__setitem__", fail)
    with pytest.raises(ValueError, match="no tables today"):
        _write(sdata, run)
    assert _elements(sdata) == elements
    assert "sjg_cell_id" not in sdata["transcripts"].columns


def test_failure_while_building_touches_nothing(make_sdata, make_run):
    sdata = make_sdata()
    run = make_run(sdata)
    elements = _elements(sdata)
    with pytest.raises(InputError, match="cannot be kept"):
        _write(sdata, run, uns={"bad": object()})
    assert _elements(sdata) == elements


def test_second_run_needs_overwrite(written):
    sdata, run = written
    elements = _elements(sdata)
    with pytest.raises(ExistingElementError, match=r"labels\['sjg_cells'\].*\['sjg_cell_id'\].*overwrite=True"):
        _write(sdata, run)
    with pytest.raises(ExistingElementError):
        check_output_keys(sdata, "sjg", "transcripts")
    assert _elements(sdata) == elements
    check_output_keys(sdata, "sjg", "transcripts", overwrite=True)
    check_output_keys(sdata, "second", "transcripts")
    _write(sdata, run, uns={"extra": 1}, overwrite=True)
    _check_outputs(sdata, run)


def test_columns_alone_are_outputs_too(written):
    sdata, _ = written
    for key in OUTPUTS:
        del sdata[key]
    with pytest.raises(ExistingElementError, match=r"points\['transcripts'\]\['sjg_cell_id'\]"):
        check_output_keys(sdata, "sjg", "transcripts")


@pytest.mark.parametrize("name", ["", "a/b", "__x", "with space"])
def test_bad_names(make_sdata, name):
    with pytest.raises(InputError, match="no valid name"):
        check_output_keys(make_sdata(), name, "transcripts")


def test_names_of_other_kinds_are_never_replaced(make_sdata):
    sdata = make_sdata()
    sdata.images["sjg_cells"] = Image2DModel.parse(np.zeros((1, 3, 3), dtype=np.uint8), dims=("c", "y", "x"))
    with pytest.raises(InputError, match=r"labels\['sjg_cells'\] needs a name that images\['sjg_cells'\] has"):
        check_output_keys(sdata, "sjg", "transcripts", overwrite=True)
    with pytest.raises(InputError, match=r"labels\['nuclei'\]"):
        check_new_keys(sdata, {"labels": ["Nuclei"]}, key_added="Nuclei", overwrite=True)


def test_outputs_that_only_the_store_has(written, tmp_path):
    sdata, _ = written
    sdata.write(tmp_path / "out.zarr")
    part = read_zarr(tmp_path / "out.zarr", selection=("images", "points"))
    part["transcripts"] = part["transcripts"].drop(columns=["sjg_cell_id", "sjg_confidence"])
    with pytest.raises(ExistingElementError, match="sjg_table"):
        check_output_keys(part, "sjg", "transcripts")


def test_read_only_store(make_sdata, tmp_path, monkeypatch):
    make_sdata().write(tmp_path / "in.zarr")
    sdata = read_zarr(tmp_path / "in.zarr")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    # the tests may run as root, whom file modes do not stop
    monkeypatch.setattr("sjg.access._store.tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"in\.zarr' .* is read-only .*sdata\.write\(new_path\)"):
        check_output_keys(sdata, "sjg", "transcripts")
    check_output_keys(sdata, "sjg", "transcripts", to_disk=False)
    sdata.path = tmp_path / "gone.zarr"
    with pytest.raises(InputError, match="not there any more"):
        check_output_keys(sdata, "sjg", "transcripts")


def test_cells_without_a_pixel_are_left_out(make_sdata, make_run, caplog):
    sdata = make_sdata()
    run = make_run(sdata)
    labels = run.segmentation.labels.copy()
    labels[labels == 2] = 0
    with caplog.at_level("WARNING", logger="sjg"):
        _write(sdata, replace(run, segmentation=replace(run.segmentation, labels=labels)))
    table = sdata["sjg_table"]
    assert "1 cells have no pixel" in caplog.text
    assert table.obs["cell_id"].tolist() == [1, 2, 3]
    assert table.obs["nucleus_id"].tolist() == run.source_ids[[0, 2, 3]].tolist()
    assert np.unique(sdata["sjg_cells"]).tolist() == [0, 1, 2, 3]
    cell = sdata["transcripts"].compute()["sjg_cell_id"].to_numpy()[run.report.row]
    np.testing.assert_array_equal(cell, np.array([0, 1, 0, 2, 3])[run.segmentation.molecule_cell])
    assert table.X.sum() == (cell > 0).sum()


def test_new_cells_have_no_nucleus(make_sdata, make_run):
    sdata = make_sdata()
    run = make_run(sdata)
    _write(sdata, run, source_ids=run.source_ids[:2])
    assert sdata["sjg_table"].obs["nucleus_id"].tolist() == [3, 10, 0, 0]
    _write(sdata, run, source_ids=np.array(["aa-1", "b"], dtype=object), overwrite=True)
    assert sdata["sjg_table"].obs["nucleus_id"].tolist() == ["aa-1", "b", "", ""]
    _write(sdata, run, source_ids=None, overwrite=True)
    assert sdata["sjg_table"].obs["nucleus_id"].tolist() == [1, 2, 3, 4]


def test_unknown_types_stay_missing(make_sdata, make_run):
    sdata = make_sdata()
    run = make_run(sdata)
    _write(sdata, replace(run, segmentation=replace(run.segmentation, cell_type=np.array([0, -1, 1, 0], dtype=np.int32))))
    assert sdata["sjg_table"].obs["cell_type"].isna().tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", ["molecule_cell", "molecule_confidence", "cell_type_confidence", "gene_importance"])
def test_arrays_that_do_not_fit(make_sdata, make_run, name):
    sdata = make_sdata()
    run = make_run(sdata)
    short = replace(run.segmentation, **{name: getattr(run.segmentation, name)[1:]})
    with pytest.raises(InputError, match=name):
        _write(sdata, replace(run, segmentation=short))


def test_area_in_pixels_where_no_size_is_known(make_sdata, make_run):
    sdata = make_sdata()
    run = make_run(sdata)
    _write(sdata, replace(run, grid=replace(run.grid, pixel_size_um=None)))
    table = sdata["sjg_table"]
    assert "area_um2" not in table.obs
    # a working grid may be coarser than the image: its pixels are not counted, but what they cover
    np.testing.assert_allclose(table.obs["area_px2"], 0.25 * np.bincount(run.segmentation.labels.ravel())[1:])


def test_labels_lie_where_the_image_lies_in_every_coordinate_system(make_sdata):
    sdata = make_sdata()
    turn = Affine(np.array([[0, -2, 7], [2, 0, 1], [0, 0, 1.0]]), input_axes=("x", "y"), output_axes=("x", "y"))
    set_transformation(sdata["dapi"], turn, "aligned")
    grid = working_grid(sdata, "dapi", "transcripts", resolution_um=1.25)
    found = grid_transformations(sdata, "dapi", grid)
    assert set(found) == {"global", "aligned"}
    expected = {"global": grid.matrix, "aligned": turn.to_affine_matrix(("x", "y"), ("x", "y")) @ np.diag([2.5, 2.5, 1])}
    for name, matrix in expected.items():
        np.testing.assert_allclose(found[name].to_affine_matrix(("x", "y"), ("x", "y")), matrix)
    # at the image's own resolution nothing is added
    own = grid_transformations(sdata, "dapi", working_grid(sdata, "dapi", "transcripts"))
    assert own["global"] == Scale([0.5, 0.5], axes=("x", "y"))
    crop = Grid(shape=(3, 3), matrix=grid.matrix @ np.array([[1, 0, 2], [0, 1, 1], [0, 0, 1.0]]))
    np.testing.assert_allclose(grid_transformations(sdata, "dapi", crop)["global"].to_affine_matrix(("x", "y"), ("x", "y")), crop.matrix)


def test_xenium_layout_with_repeated_index(make_sdata, make_run, tmp_path):
    """Image in pixels, transcripts in micrometres with a scale, every partition numbered from 0."""
    sdata = make_sdata()
    set_transformation(sdata["dapi"], Identity())
    set_transformation(sdata["nuclei"], Identity())
    set_transformation(sdata["transcripts"], Scale([2.0, 2.0], axes=("x", "y")))
    points = sdata["transcripts"].map_partitions(lambda frame: frame.reset_index(drop=True)).clear_divisions()
    points.attrs.update(sdata["transcripts"].attrs)
    sdata.points["transcripts"] = points
    run = make_run(sdata)
    assert run.grid.pixel_size_um == pytest.approx(0.5)
    _write(sdata, run, uns={"extra": 1})
    _check_outputs(sdata, run)
    sdata.write(tmp_path / "out.zarr")
    _check_outputs(read_zarr(tmp_path / "out.zarr"), run)


def test_a_table_counts_what_the_points_say_when_read_back(written):
    sdata, run = written
    molecules, report = read_molecules(sdata, "transcripts", run.grid)
    np.testing.assert_array_equal(molecules.gene, run.molecules.gene)
    np.testing.assert_array_equal(report.row, run.report.row)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_output_keys(sdata, "new", "transcripts")
