"""Real platform files to a written table; whole runs at full length are in the benchmarks."""

from __future__ import annotations

import numpy as np
import pytest
import spatialdata as sd

import sjg

QUICK = {"preset": "fast", "max_epochs": 1, "parameters": {"steps_per_round": 3, "n_importance_patches": 1}, "progress": False}


@pytest.mark.parametrize(
    ("reader", "folder", "nuclei_key", "n_controls"),
    [(sjg.io.xenium, "xenium_tile", "nucleus_boundaries", 3), (sjg.io.merscope, "merscope_tile", "cell_boundaries", 209)],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_platform_files_run_to_a_written_table(data_dir, tmp_path, reader, folder, nuclei_key, n_controls):
    sdata = reader(data_dir / folder)
    vendor = {key: list(points.columns) for key, points in sdata.points.items()}
    sjg.tl.segment(sdata, nuclei_key=nuclei_key, **QUICK)
    sdata.write(tmp_path / "run.zarr")
    table = sd.read_zarr(tmp_path / "run.zarr")["sjg_table"]
    run = table.uns["sjg"]
    assert int(run["transcripts"]["n_control"]) == n_controls
    assert int(run["transcripts"]["n_kept"]) > 0.9 * int(run["transcripts"]["n_total"])
    # Cells of a few hundred square micrometres at most: the frames of image and transcripts were put together rightly.
    assert 20 < np.median(table.obs["area_um2"]) < 400
    assert 0.8 < run["quality"]["fraction_assigned"] <= 1
    for key, columns in vendor.items():
        assert set(columns) < set(sdata.points[key].columns)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_image_without_nuclei_says_what_to_bring(data_dir):
    sdata = sjg.io.merscope(data_dir / "merscope_tile")
    with pytest.raises(sjg.core.InputError, match="cell_boundaries"):
        sjg.tl.segment(sdata, **QUICK)


def test_mouse_ca1_types_are_those_of_the_region(data_dir):
    """A corner of the section: pyramidal cells are the majority where the pyramidal layer is."""
    sdata = sjg.datasets.mouse_ca1(data_dir / "mouse_ca1_iss")
    part = sdata.query.bounding_box(
        axes=("x", "y"), min_coordinate=[1900, 1000], max_coordinate=[2850, 1850], target_coordinate_system="global", filter_table=False
    )
    part.tables["reference"] = sdata["reference"]
    sjg.tl.segment(part, reference="reference", **{**QUICK, "parameters": {"steps_per_round": 20, "n_importance_patches": 1}})
    table = part["sjg_table"]
    assert len(table) > 100
    assert "area_px2" in table.obs
    share = table.obs["cell_type"].value_counts(normalize=True)
    assert share[[name for name in share.index if name.startswith("PC")]].sum() > 0.3
