"""A small tissue on disk, and a quick stand-in for ``tl.segment`` with its real outputs, so that commands are tested and not training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.segmentation import expand_labels
from spatialdata import SpatialData

import sjg
from sjg.access import read_molecules, read_nuclei, working_grid, write_segmentation
from sjg.core import InputError, Segmentation


@pytest.fixture(scope="session")
def tissue() -> SpatialData:
    return sjg.datasets.simulated_tissue(size_um=(60, 60), n_cell_types=3, n_genes=30, random_state=1)


@pytest.fixture
def store(tissue: SpatialData, tmp_path: Path) -> Path:
    path = tmp_path / "tissue.zarr"
    tissue.write(path, update_sdata_path=False)
    return path


@pytest.fixture
def quick_segment(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Replace ``tl.segment`` by nuclei expanded by 6 px, written by the real writer; returns the arguments of the calls."""
    calls: list[dict] = []

    def segment(
        sdata,
        image_key=None,
        points_key=None,
        *,
        nuclei_key=None,
        cell_type_key=None,
        reference=None,
        preset="default",
        resolution_um=None,
        pixel_size_um=None,
        feature_key=None,
        channel=None,
        min_qv=20.0,
        assignment="posterior",
        coordinate_system="global",
        key_added="sjg",
        device="auto",
        random_state=0,
        max_epochs=None,
        checkpoint_dir=None,
        checkpoint_interval=None,
        resume=False,
        overwrite=False,
        progress=True,
    ):
        calls.append(dict(locals()))
        image_key, points_key = image_key or "dapi", points_key or "transcripts"
        if image_key not in sdata.images:
            raise InputError(f"image_key={image_key!r} names no image; there are: {sorted(sdata.images)}")
        if preset == "broken":
            raise RuntimeError("out of\nluck")
        grid = working_grid(sdata, image_key, points_key)
        nuclei, source_ids = read_nuclei(sdata, nuclei_key or "nuclei", grid)
        molecules, report = read_molecules(sdata, points_key, grid)
        labels = expand_labels(nuclei, 6).astype(np.int32)
        yx = np.floor(molecules.yx_px).astype(int)
        n_cells, n_genes = int(labels.max()), len(molecules.gene_names)
        rng = np.random.default_rng(0)
        result = Segmentation(
            labels=labels,
            molecule_cell=labels[yx[:, 0], yx[:, 1]],
            molecule_confidence=np.ones(len(molecules), np.float32),
            cell_type=(np.arange(n_cells) % 3).astype(np.int32),
            cell_type_confidence=rng.random(n_cells).astype(np.float32),
            type_names=("type_0", "type_1", "type_2"),
            gene_importance=rng.random((n_genes, 3)).astype(np.float32),
            history=[{"epoch": i, "loss": 1.0 / (i + 1), "fraction_assigned": 0.5, "phase": "train"} for i in range(4)],
            parameters={"preset": preset},
        )
        write_segmentation(
            sdata,
            result,
            grid,
            molecules=molecules,
            report=report,
            image_key=image_key,
            points_key=points_key,
            key_added=key_added,
            source_ids=source_ids,
            overwrite=overwrite,
        )

    monkeypatch.setattr(sjg.tl, "segment", segment, raising=False)
    return calls
