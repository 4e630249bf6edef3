from __future__ import annotations

import numpy as np
import pytest
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image2DModel, Labels2DModel
from spatialdata.transformations import Scale, Translation, get_transformation

import sjg
from sjg.core import ExistingElementError, InputError, MissingElementError


def _object(*, nuclei_transformation=None, shift=0):
    cells = np.zeros((30, 40), dtype=np.int32)
    cells[2:12, 2:12], cells[2:12, 12:22], cells[15:25, 4:14] = 3, 5, 9
    nuclei = np.zeros((30, 40), dtype=np.int32)
    nuclei[4:8, 4:8], nuclei[5:9, 8:14], nuclei[26:29, 30:33] = 2, 4, 6
    scale = Scale([0.5, 0.5], axes=("x", "y"))
    image = np.stack([np.full(cells.shape, 7.0), np.where(cells == 5, 10.0, 1.0)])
    return SpatialData(
        labels={
            "cells": Labels2DModel.parse(cells, dims=("y", "x"), transformations={"global": scale}),
            "nuclei": Labels2DModel.parse(
                np.roll(nuclei, shift, axis=1), dims=("y", "x"), transformations={"global": nuclei_transformation or scale}
            ),
        },
        images={"stain": Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=["a", "b"], transformations={"global": scale})},
    )


def test_writes_pairs_with_one_id(tmp_path):
    sdata = _object()
    sdata.write(tmp_path / "a.zarr")
    sjg.tl.match_nuclei(sdata, "cells", "nuclei", image_key="stain", pixel_size_um=0.5)
    table = read_zarr(tmp_path / "a.zarr")["matched_table"]
    # nucleus 2 lies in the interior of cell 3; of nucleus 4 (24 px) one column of 4 lies in the interior of cell 5
    assert table.obs["source_cell_id"].tolist() == [3, 5]
    assert table.obs["source_nucleus_id"].tolist() == [2, 4]
    np.testing.assert_allclose(table.obs["mismatch"], [0, 20 / 24])
    np.testing.assert_allclose(table.obs["area_um2"], [25, 25])
    np.testing.assert_allclose(table.obs["nucleus_area_um2"], [4, 1])
    np.testing.assert_allclose(table.obs["nucleus_cytoplasm_ratio"], [16 / 84, 4 / 96])
    np.testing.assert_allclose(table.X, [[7, 1], [7, 10]])
    np.testing.assert_allclose(table.obsm["spatial"], [[3.5, 3.5], [8.5, 3.5]])
    facts = table.uns["match_nuclei"]
    assert (facts["n_cells"], facts["n_nuclei"], facts["n_matched"]) == (3, 3, 2)
    assert facts["matched_fraction"] == pytest.approx(2 / 4)
    assert facts["retained_fraction"] == pytest.approx(20 / 40)
    assert facts["total_mismatch"] == pytest.approx(20 / 24 + 1)
    parts = {name: np.asarray(sdata.labels[f"matched_{name}"]) for name in ("cells", "nuclei", "cytoplasm")}
    np.testing.assert_array_equal(parts["nuclei"] + parts["cytoplasm"], parts["cells"])
    assert np.unique(parts["cells"]).tolist() == [0, 1, 2]
    assert get_transformation(sdata.labels["matched_cells"]) == get_transformation(sdata.labels["cells"])
    assert set(table.obs["region"]) == {"matched_cells"}


def test_pixel_size_is_that_of_the_image():
    """Labels with pixels twice as wide as the image's have four times the area; what a run recorded goes before a guess."""
    sdata = _object()
    coarse = Scale([1.0, 1.0], axes=("x", "y"))
    for key in ("cells", "nuclei"):
        sdata.labels[key] = Labels2DModel.parse(np.asarray(sdata.labels[key]), dims=("y", "x"), transformations={"global": coarse})
    sjg.tl.match_nuclei(sdata, "cells", "nuclei", pixel_size_um=0.5)
    np.testing.assert_allclose(sdata["matched_table"].obs["area_um2"], [100, 100])


def test_block_by_block_on_disk_as_in_memory(tmp_path, monkeypatch):
    from sjg.imaging import _blocks

    memory = _object()
    memory.write(tmp_path / "a.zarr")
    memory.path = None
    stored = read_zarr(tmp_path / "a.zarr")
    unstored = _object()
    sjg.tl.match_nuclei(memory, "cells", "nuclei", image_key="stain", channels=["b", "a"], progress=False)
    monkeypatch.setattr(sjg.access, "MAX_IN_MEMORY_PX2", 0)
    monkeypatch.setattr(_blocks, "BLOCK_PX", 18)
    monkeypatch.setattr(sjg.settings, "scratch_dir", tmp_path)
    for sdata in (stored, unstored):
        sjg.tl.match_nuclei(sdata, "cells", "nuclei", image_key="stain", channels=["b", "a"], progress=False)
        for name in ("cells", "nuclei", "cytoplasm"):
            np.testing.assert_array_equal(np.asarray(sdata.labels[f"matched_{name}"]), np.asarray(memory.labels[f"matched_{name}"]))
        one, other = (each["matched_table"] for each in (sdata, memory))
        np.testing.assert_array_equal(one.obs.drop(columns="region"), other.obs.drop(columns="region"))
        np.testing.assert_allclose(one.X, other.X)
        np.testing.assert_allclose(one.obsm["spatial"], other.obsm["spatial"])
    # nothing is left of the working files
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_frames_go_through_their_transformations():
    expected = _object()
    sjg.tl.match_nuclei(expected, "cells", "nuclei")
    # the same place: content moved by 3 px, and the frame back by 3 px of 0.5
    from spatialdata.transformations import Sequence

    moved = _object(shift=3, nuclei_transformation=Sequence([Scale([0.5, 0.5], axes=("x", "y")), Translation([-1.5, 0], axes=("x", "y"))]))
    sjg.tl.match_nuclei(moved, "cells", "nuclei")
    np.testing.assert_array_equal(np.asarray(moved.labels["matched_nuclei"]), np.asarray(expected.labels["matched_nuclei"]))
    assert moved["matched_table"].obs["source_nucleus_id"].tolist() == [2, 4]


def test_errors():
    sdata = _object()
    with pytest.raises(MissingElementError, match="nuclei_key"):
        sjg.tl.match_nuclei(sdata, "cells", "no")
    sjg.tl.match_nuclei(sdata, "cells", "nuclei")
    with pytest.raises(ExistingElementError):
        sjg.tl.match_nuclei(sdata, "cells", "nuclei")
    sdata.labels["away"] = Labels2DModel.parse(
        np.eye(3, dtype=np.int32), dims=("y", "x"), transformations={"global": Translation([900, 0], axes=("x", "y"))}
    )
    with pytest.raises(InputError, match="same place"):
        sjg.tl.match_nuclei(sdata, "cells", "away", key_added="b")


def test_mean_of_each_channel_in_each_label():
    sdata = _object()
    sjg.tl.aggregate_channels(sdata, "cells", key_added="intensity")
    table = sdata["intensity"]
    assert table.obs["cell_id"].tolist() == [3, 5, 9]
    assert table.var_names.tolist() == ["a", "b"]
    np.testing.assert_allclose(table.X, [[7, 1], [7, 10], [7, 1]])
    np.testing.assert_allclose(table.obs["area_px2"], [100, 100, 100])
    np.testing.assert_allclose(table.obsm["spatial"][0], [3.5, 3.5])
    sjg.tl.aggregate_channels(sdata, "cells", key_added="one", channels="b", pixel_size_um=0.5)
    assert sdata["one"].shape == (3, 1)
    assert sdata["one"].obs["area_um2"].tolist() == [25, 25, 25]
