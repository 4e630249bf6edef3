"""Patch files: what was written comes back, what is wrong is refused."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
from scipy import ndimage

from sjg.core import InputError, MissingElementError
from sjg.io import read_patches, write_patches
from sjg.io._patch_ids import ids_span_patches, number_instances

SIZE, GENES = 16, 3


def tissue(seed=0, n_rows=2, n_columns=3, n_cells=14, size=SIZE):
    """Rasters of a tissue with nuclei across the seams: ids 1..n, classes 1..4, 0 = background."""
    rng = np.random.default_rng(seed)
    shape = n_rows * size, n_columns * size
    ids = np.zeros(shape, int)
    for i in range(1, n_cells + 1):
        y, x = rng.integers(0, shape[0] - 5), rng.integers(0, shape[1] - 5)
        ids[y : y + 5, x : x + 5] = i
    classes = np.r_[0, rng.integers(1, 5, n_cells)][ids]
    image = rng.random((GENES, *shape), dtype=np.float32)
    return {"image": image, "label": classes, "instance": ids, "spots": image.sum(0), "dapi": rng.random(shape, dtype=np.float32)}


def save_patches(folder, rasters, background=-1, name="p_{}_{}.npz", **changes):
    height, width = rasters["instance"].shape
    for row in range(height // SIZE):
        for column in range(width // SIZE):
            window = np.s_[..., row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
            arrays = {key: array[window] for key, array in rasters.items()}
            for key in ("label", "instance", "ground_truth"):
                if key in arrays:
                    arrays[key] = arrays[key] + background
            path = folder / name.format(row, column)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **arrays)
    return folder


def contents(folder):
    files = {}
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path, allow_pickle=False) as archive:
            files[path.relative_to(folder).as_posix()] = {key: archive[key] for key in archive.files}
    return files


def assert_same_files(left, right):
    a, b = contents(left), contents(right)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].keys() == b[name].keys()
        for key in a[name]:
            assert a[name][key].dtype == b[name][key].dtype
            np.testing.assert_array_equal(a[name][key], b[name][key])


@pytest.mark.parametrize("background", [-1, 0])
def test_patches_become_one_tissue(tmp_path, background):
    rasters = tissue()
    save_patches(tmp_path, rasters, background)
    np.savez(tmp_path / "metadata.npz", gene_names=np.array(["Sst", "Vip", "Pvalb"]), class_names=np.array(["a", "b", "c", "d"]))
    sdata = read_patches(tmp_path)
    assert list(sdata["genes"].coords["c"].values) == ["Sst", "Vip", "Pvalb"]
    np.testing.assert_array_equal(sdata["genes"].values, rasters["image"])
    np.testing.assert_array_equal(sdata["dapi"].values[0], rasters["dapi"])
    np.testing.assert_array_equal(sdata["spots"].values[0], rasters["spots"])
    np.testing.assert_array_equal(sdata["cell_types"].values, rasters["label"])
    # cells across seams are one: the same partition of the pixels as in the tissue
    nuclei, table = sdata["nuclei"].values, sdata["nuclei_table"]
    np.testing.assert_array_equal(np.r_[background, table.obs["source_id"]][nuclei], rasters["instance"] + background)
    assert sorted(np.unique(nuclei)) == list(range(table.n_obs + 1))
    for row in range(table.n_obs):
        inside = nuclei == row + 1
        assert table.obs["cell_type"].iloc[row] == "abcd"[rasters["label"][inside][0] - 1]
        np.testing.assert_allclose(table.X[row], rasters["image"][:, inside].sum(1), rtol=1e-5)


@pytest.mark.parametrize("background", [-1, 0])
@pytest.mark.parametrize("name", ["p_{}_{}.npz", "train/p_{}_{}.npz"])
@pytest.mark.parametrize("through_disk", [False, True])
def test_round_trip_is_exact(tmp_path, background, name, through_disk):
    rasters = tissue(1) | {"ground_truth": tissue(2)["instance"]}
    folder = save_patches(tmp_path / "in", rasters, background, name)
    np.savez((folder / name).parent / "metadata.npz", genes=np.array(["x", "y", "z"]))
    sdata = read_patches(folder)
    if through_disk:
        import spatialdata

        sdata.write(tmp_path / "object.zarr")
        sdata = spatialdata.read_zarr(tmp_path / "object.zarr")
    write_patches(sdata, tmp_path / "out")
    assert_same_files(folder, tmp_path / "out")


def test_train_and_test_gaps_types_and_optional_truth_survive(tmp_path):
    rasters = tissue(3, 3, 3)
    rasters["label"], rasters["instance"] = rasters["label"].astype(np.int8), rasters["instance"].astype(np.int64)
    rasters["image"] = rasters["image"].astype(np.float64)
    folder = save_patches(tmp_path / "in", rasters)
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    for index, path in enumerate(sorted(folder.glob("p_*.npz"))):
        path.rename(folder / ("test" if index % 3 == 0 else "train") / path.name)
    (folder / "train" / "p_0_1.npz").unlink()
    path = folder / "test" / "p_1_0.npz"
    with np.load(path) as archive:
        np.savez(path, ground_truth=np.full((SIZE, SIZE), 7, np.uint8), **{key: archive[key] for key in archive.files})
    sdata = read_patches(folder)
    assert not sdata["genes"].values[:, :SIZE, SIZE : 2 * SIZE].any()
    assert not sdata["nuclei"].values[:SIZE, SIZE : 2 * SIZE].any()
    assert sdata["ground_truth"].values[SIZE, 0] == 7
    write_patches(sdata, tmp_path / "out")
    assert_same_files(folder, tmp_path / "out")


def test_groups_are_placed_side_by_side(tmp_path):
    rasters = tissue(4, 4, 6)
    flat = save_patches(tmp_path / "flat", rasters)
    groups = tmp_path / "groups"
    groups.mkdir()
    for path in flat.iterdir():
        row, column = map(int, path.stem.split("_")[1:])
        (groups / f"p_{row // 2}_{column // 3}_{row % 2}_{column % 3}.npz").write_bytes(path.read_bytes())
    sdata = read_patches(groups)
    np.testing.assert_array_equal(sdata["genes"].values, rasters["image"])
    np.testing.assert_array_equal(sdata["nuclei"].values > 0, rasters["instance"] > 0)
    write_patches(sdata, tmp_path / "out")
    assert_same_files(groups, tmp_path / "out")


def test_a_tissue_that_starts_elsewhere_is_placed_by_its_transformation(tmp_path):
    from spatialdata.transformations import get_transformation

    save_patches(tmp_path / "all", tissue(5))
    part = tmp_path / "part"
    part.mkdir()
    (tmp_path / "all" / "p_1_2.npz").rename(part / "p_100_200.npz")
    sdata = read_patches(part)
    assert sdata["genes"].shape == (GENES, SIZE, SIZE)
    for key in ("genes", "nuclei"):
        shift = get_transformation(sdata[key]).to_affine_matrix(("x", "y"), ("x", "y"))[:2, 2]
        np.testing.assert_array_equal(shift, [200 * SIZE, 100 * SIZE])
    write_patches(sdata, tmp_path / "out")
    assert_same_files(part, tmp_path / "out")


def test_patches_that_count_for_themselves_keep_their_cells_apart(tmp_path):
    rasters = tissue(6, n_cells=30)
    for row in range(2):
        for column in range(3):
            window = np.s_[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
            _, local = np.unique(rasters["instance"][window], return_inverse=True)
            present = np.unique(rasters["instance"][window])
            rasters["instance"][window] = local.reshape(SIZE, SIZE) + (present[0] > 0)
    folder = save_patches(tmp_path / "in", rasters, background=0)
    sdata = read_patches(folder)
    table = sdata["nuclei_table"].obs
    assert table["patch"].nunique() == 6
    assert not table.duplicated(["patch", "source_id"]).any()
    patch_of_pixel = (np.indices(rasters["instance"].shape) // SIZE * [[[3]], [[1]]]).sum(0)
    inside = sdata["nuclei"].values > 0
    np.testing.assert_array_equal(table["patch"].to_numpy()[sdata["nuclei"].values[inside] - 1], patch_of_pixel[inside])
    write_patches(sdata, tmp_path / "out")
    assert_same_files(folder, tmp_path / "out")
    joined = read_patches(folder, instance_ids="tissue")
    assert joined["nuclei_table"].n_obs == rasters["instance"].max()


def test_the_background_can_be_said(tmp_path):
    rasters = tissue(7)
    rasters["instance"] = np.maximum(rasters["instance"], 1)  # no background pixel at all
    folder = save_patches(tmp_path, rasters)
    assert read_patches(folder)["nuclei"].values.min() == 0
    assert read_patches(folder, background=-1)["nuclei"].values.min() == 1
    with pytest.raises(InputError, match="background=0"):
        read_patches(folder, background=0)


def test_numbering_is_read_off_the_seams():
    ids = tissue(8, 4, 4, 40)["instance"]
    assert ids_span_patches(ids, (SIZE, SIZE))
    shuffled = ids.copy()
    rng = np.random.default_rng(0)
    for row in range(4):
        for column in range(4):
            window = np.s_[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
            shuffled[window] = np.r_[0, rng.permutation(40) + 1][ids[window]]
    assert not ids_span_patches(shuffled, (SIZE, SIZE))
    labels, source, patch = number_instances(shuffled, (SIZE, SIZE), "patch")
    np.testing.assert_array_equal(np.r_[0, source][labels], shuffled)
    assert len(set(zip(source, patch, strict=True))) == len(source) == labels.max()


def test_any_object_is_written_and_read_back(tmp_path):
    import sjg

    sdata = sjg.datasets.simulated_tissue(size_um=(30, 41), n_cell_types=3, n_genes=12, wrong_type_fraction=0.0, random_state=1)
    write_patches(sdata, tmp_path / "out", patch_size_px=32, ground_truth_key="cells", sigma_px=1.5)
    again = read_patches(tmp_path / "out")
    height, width = sdata["nuclei"].shape
    assert again["nuclei"].shape == (64, 96)
    nuclei = np.asarray(sdata["nuclei"].data)
    source = np.r_[0, again["nuclei_table"].obs["source_id"] + 1]
    np.testing.assert_array_equal(source[again["nuclei"].values][:height, :width], nuclei)
    assert not again["nuclei"].values[height:].any()
    assert not again["nuclei"].values[:, width:].any()
    np.testing.assert_array_equal(again["ground_truth"].values[:height, :width], np.asarray(sdata["cells"].data))
    types = sdata["nuclei_table"].obs.set_index("cell_id")["cell_type"].astype(str)
    found = again["nuclei_table"].obs
    assert (types.loc[found["source_id"] + 1].to_numpy() == found["cell_type"].astype(str).to_numpy()).all()
    # densities without seams: SciPy on the whole tissue
    points = sdata["transcripts"].compute()
    for index, gene in enumerate(again["genes"].coords["c"].values):
        of_gene = points[points["gene"] == gene]
        counts, _, _ = np.histogram2d(of_gene["y"] / 0.5, of_gene["x"] / 0.5, (np.arange(height + 1), np.arange(width + 1)))
        expected = ndimage.gaussian_filter(counts, 1.5, mode="constant", truncate=4)
        np.testing.assert_allclose(again["genes"].values[index, :height, :width], expected, atol=1e-5)
    write_patches(again, tmp_path / "again")
    assert_same_files(tmp_path / "out", tmp_path / "again")
    write_patches(again, tmp_path / "larger", patch_size_px=64)
    larger = read_patches(tmp_path / "larger")
    np.testing.assert_array_equal(larger["genes"].values[:, :64, :96], again["genes"].values)
    np.testing.assert_array_equal(larger["nuclei"].values[:64, :96], again["nuclei"].values)


def test_the_labels_of_a_run_are_written_beside_the_densities_as_read(tmp_path):
    from spatialdata.models import Labels2DModel

    sdata = read_patches(save_patches(tmp_path / "in", tissue(9)))
    cells = ndimage.grey_dilation(sdata["nuclei"].values, 3)
    sdata["sjg_cells"] = Labels2DModel.parse(cells, dims=("y", "x"))
    write_patches(sdata, tmp_path / "out", nuclei_key="sjg_cells", cell_type_key=None, patch_size_px=SIZE, background=0)
    files, before = contents(tmp_path / "out"), contents(tmp_path / "in")
    np.testing.assert_array_equal(files["p_1_2.npz"]["instance"], cells[SIZE:, 2 * SIZE :])
    np.testing.assert_array_equal(files["p_1_2.npz"]["image"], before["p_1_2.npz"]["image"])
    np.testing.assert_array_equal(files["p_1_2.npz"]["dapi"], before["p_1_2.npz"]["dapi"])


def damage(folder, **changes):
    path = folder / "p_0_1.npz"
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files} | changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})


PLANE = np.zeros((SIZE, SIZE), np.float32)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dapi": None}, "lacks 'dapi'"),
        ({"spots": PLANE[:, :5]}, r"'spots' has shape \(16, 5\)"),
        ({"image": PLANE}, r"'image' has shape \(16, 16\)"),
        ({"image": np.zeros((GENES + 1, SIZE, SIZE), np.float32)}, "one size"),
        ({"image": np.full((GENES, SIZE, SIZE), np.nan, np.float32)}, "768 values that are NaN"),
        ({"dapi": np.full((SIZE, SIZE), np.inf, np.float32)}, "infinite"),
        ({"label": PLANE + 0.5}, "'label' holds float32 values; it must hold integers"),
        ({"instance": PLANE.astype(int) - 2}, "'instance' reaches from -2"),
        ({"instance": PLANE.astype(np.int64) + 2**40}, "32 bits"),
        ({"instance": PLANE.astype(np.int8)}, "int8"),
        ({"dapi": PLANE.astype(int)}, "floating point"),
        ({"label": np.full((SIZE, SIZE), None)}, "pickled"),
        (dict.fromkeys(("spots", "dapi"), PLANE[:8, :8]) | {"image": np.zeros((GENES, 8, 8), np.float32)}, "'label' has shape"),
    ],
)
def test_wrong_contents_are_refused_with_file_and_reason(tmp_path, changes, reason):
    save_patches(tmp_path, tissue())
    damage(tmp_path, **changes)
    with pytest.raises(InputError, match=reason) as caught:
        read_patches(tmp_path)
    assert "p_0_1.npz" in str(caught.value)


def test_mixed_sizes_are_refused(tmp_path):
    save_patches(tmp_path, tissue())
    half = PLANE[:8, :8]
    np.savez(
        tmp_path / "p_0_1.npz", image=half[None].repeat(GENES, 0), label=half.astype(int), instance=half.astype(int), spots=half, dapi=half
    )
    with pytest.raises(InputError, match=r"p_0_1.npz.*one size"):
        read_patches(tmp_path)


class Explosive:
    def __reduce__(self):
        raise AssertionError("unpickled")


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "pickle", "npy", "no array"])
def test_files_that_are_no_patches_are_refused(tmp_path, kind):
    save_patches(tmp_path, tissue())
    path = tmp_path / "p_0_1.npz"
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no archive")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"image": [1, 2]}))
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, PLANE)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("image", "no array")
    with pytest.raises(InputError, match=r"p_0_1\.npz"):
        read_patches(tmp_path)


def test_a_file_damaged_in_the_middle_is_refused(tmp_path):
    save_patches(tmp_path, tissue())
    path = tmp_path / "p_0_1.npz"
    data = bytearray(path.read_bytes())
    data[400] ^= 0xFF  # inside the first array: the checksum fails
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"p_0_1\.npz"):
        read_patches(tmp_path)


@pytest.mark.parametrize("name", ["q_0_0.npz", "p_0.npz", "p_0_0_1.npz", "p_a_b.npz", "p_-1_0.npz", "patch_0_0.npz", "p_0_0_1_1.npz"])
def test_wrong_names_are_refused(tmp_path, name):
    save_patches(tmp_path, tissue())
    (tmp_path / name).write_bytes((tmp_path / "p_0_0.npz").read_bytes())
    with pytest.raises(InputError) as caught:
        read_patches(tmp_path)
    assert name in str(caught.value)


def test_two_files_for_one_place_are_refused(tmp_path):
    save_patches(tmp_path, tissue())
    (tmp_path / "p_00_1.npz").write_bytes((tmp_path / "p_0_1.npz").read_bytes())
    with pytest.raises(InputError, match=r"both patch \(0, 1\)"):
        read_patches(tmp_path)


def test_names_that_count_pixels_are_refused(tmp_path):
    save_patches(tmp_path, tissue())
    (tmp_path / "p_1_2.npz").rename(tmp_path / "p_1280_1280.npz")
    with pytest.raises(InputError, match="not pixels"):
        read_patches(tmp_path)


def test_no_patches_and_no_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no files"):
        read_patches(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        read_patches(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"gene_names": np.array(["a", "b"])}, "2 names for 3 channels"),
        ({"gene_names": np.array(["a", "b", "a"])}, "repeated"),
        ({"gene_names": np.arange(3)}, "list of names"),
        ({"gene_names": np.array(["a", "b", "c"], dtype=object)}, "pickled"),
        ({"class_names": np.array(["only"])}, "name them all"),
    ],
)
def test_wrong_names_of_genes_and_classes_are_refused(tmp_path, arrays, reason):
    save_patches(tmp_path, tissue())
    np.savez(tmp_path / "metadata.npz", **arrays)
    with pytest.raises(InputError, match=reason):
        read_patches(tmp_path)


def test_keys_that_are_not_kept_are_named(tmp_path, caplog):
    save_patches(tmp_path, tissue())
    path = tmp_path / "p_0_0.npz"
    with np.load(path) as archive:
        np.savez(path, weight=np.ones(3), **{key: archive[key] for key in archive.files})
    np.savez(tmp_path / "metadata.npz", gene_names=np.array(["a", "b", "c"]), version=np.array(2))
    read_patches(tmp_path)
    assert {"weight", "version"} <= set(caplog.text.replace(",", " ").split())


def test_nothing_is_overwritten_or_left_half_written(tmp_path, monkeypatch):
    sdata = read_patches(save_patches(tmp_path / "in", tissue()))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_patches(sdata, tmp_path / "out")
    (tmp_path / "out" / "p_9_9.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"notes\.txt"):
        write_patches(sdata, tmp_path / "out", overwrite=True)
    before = contents(tmp_path / "in")
    write_patches(sdata, tmp_path / "in", overwrite=True)  # the files that the object reads lazily
    assert before.keys() == contents(tmp_path / "in").keys()
    (tmp_path / "in" / "p_1_1.npz").unlink()
    with pytest.raises((InputError, OSError)):
        write_patches(sdata, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_what_cannot_be_written_is_said(tmp_path):
    sdata = read_patches(save_patches(tmp_path / "in", tissue()))
    with pytest.raises(InputError, match="patch_size_px"):
        write_patches(sdata, tmp_path / "out", patch_size_px=0)
    with pytest.raises(InputError, match="background"):
        write_patches(sdata, tmp_path / "out", background=1)
    with pytest.raises(MissingElementError, match="nowhere"):
        write_patches(sdata, tmp_path / "out", genes_key="nowhere")
    del sdata.images["spots"]
    with pytest.raises(MissingElementError, match="spots"):
        write_patches(sdata, tmp_path / "out")
