"""Real sections, where no truth is known: capture beside purity for each method.

    SJG_DATA_DIR=... python benchmarks/quality/real.py [ca1] [merscope]

``ca1``: a part of the hippocampus section of Qian et al. with scRNA-seq class means. ``merscope``: a corner of a MERSCOPE run; its tile
shows no nuclei, so every method starts from the middle of Vizgen's cells (eroded to a fifth of their area), and purity is held against
the mean expression of types found in those middles, as there is no other reference. Rows go to results/real.json.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from compare import cpu_seconds
from methods import ENVIRONMENTS, HERE
from other_tissue import DATA_DIR
from scipy import ndimage
from scores import RESULTS, Rows
from skimage.segmentation import expand_labels
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, PointsModel
from spatialdata.transformations import Identity

import sjg

EXPANSIONS_PX = (4, 8, 12, 20)
#: beyond this distance from all nuclei nothing is taken to belong to cells
FAR_PX = 60
METRICS = (
    *("n_cells", "fraction_assigned", "median_transcripts_per_cell", "negative_marker_purity", "coexpression_rate"),
    *("cell_calling_score_3px", "cell_calling_score_5px", "cell_calling_score_7px"),
)


def ca1(folder: Path) -> tuple[SpatialData, dict[str, np.ndarray]]:
    """1,500 x 1,200 pixels across the pyramidal layer."""
    whole = sjg.datasets.mouse_ca1(folder / "mouse_ca1_iss")
    (x0, y0), (x1, y1) = (1900, 900), (3400, 2100)
    nuclei = np.asarray(whole["nuclei"].data[y0:y1, x0:x1])
    points = whole["transcripts"].compute()
    points = points[points["x"].between(x0, x1, inclusive="left") & points["y"].between(y0, y1, inclusive="left")]
    frame = pd.DataFrame({"x": points["x"] - x0, "y": points["y"] - y0, "gene": points["gene"].astype(str)})
    image = np.asarray(whole["dapi"].data[:, y0:y1, x0:x1])
    return assemble(image, nuclei, frame, whole["reference"]), {}


def merscope(folder: Path) -> tuple[SpatialData, dict[str, np.ndarray]]:
    """The tile, in pixels merged four by four, and Vizgen's cells."""
    sdata = sjg.io.merscope(folder / "merscope_tile")
    from sjg import access

    grid = access.working_grid(sdata, "mosaic", "transcripts", coordinate_system="global", resolution_um=None, pixel_size_um=0.108)
    cells, _ = access.read_nuclei(sdata, "cell_boundaries", grid, coordinate_system="global")
    molecules, _ = access.read_molecules(sdata, "transcripts", grid, coordinate_system="global")
    image = access.read_image(sdata, "mosaic", grid, channel="DAPI", coordinate_system="global")
    middle = np.zeros_like(cells)
    for i, window in enumerate(ndimage.find_objects(cells), 1):
        if window is not None:
            depth = ndimage.distance_transform_edt(np.pad(cells[window] == i, 1))[1:-1, 1:-1]
            area = int((cells[window] == i).sum())
            middle[window][(depth > 0) & (depth >= np.sort(depth, axis=None)[::-1][min(max(area // 5, 1), depth.size - 1)])] = i
    frame = pd.DataFrame({"x": molecules.yx_px[:, 1], "y": molecules.yx_px[:, 0], "gene": np.array(molecules.gene_names)[molecules.gene]})
    return assemble(np.asarray(image)[None], middle, frame, None), {"Vizgen": cells}


def assemble(image: np.ndarray, nuclei: np.ndarray, frame: pd.DataFrame, reference: Any) -> SpatialData:
    """Everything in pixels of one raster."""
    ids, nuclei = np.unique(nuclei, return_inverse=True)
    nuclei = nuclei.reshape(image.shape[1:]).astype(np.int32) + (0 if ids[0] == 0 else 1)
    inside = frame["x"].between(0, image.shape[2], inclusive="left") & frame["y"].between(0, image.shape[1], inclusive="left")
    frame = frame[inside].reset_index(drop=True)
    points = PointsModel.parse(frame.assign(gene=pd.Categorical(frame["gene"])), feature_key="gene", transformations={"global": Identity()})
    from spatialdata.models import Image2DModel

    sdata = SpatialData(
        images={"dapi": Image2DModel.parse(image, dims=("c", "y", "x"))},
        labels={"nuclei": Labels2DModel.parse(nuclei, dims=("y", "x"))},
        points={"transcripts": points},
    )
    if reference is not None:
        sdata["reference"] = reference
    return sdata


def type_means(sdata: SpatialData) -> pd.DataFrame:
    """Genes x types mean counts of clusters of the nuclei."""
    sjg.pp.annotate_nuclei(sdata, "nuclei", key_added="types")
    table = sdata["types"]
    return table.to_df().groupby(table.obs["cell_type"].astype(str).to_numpy()).mean().T


def judge(sdata: SpatialData, labels: np.ndarray, cell: np.ndarray | None, reference: Any) -> dict[str, float]:
    """Truth-free metrics; where transcripts are assigned one by one, by that assignment."""
    points = sdata["transcripts"].compute()
    if cell is not None:
        points = points.assign(judged_cell_id=cell)
    judged = SpatialData(
        labels={"judged_cells": Labels2DModel.parse(labels.astype(np.int32), dims=("y", "x"))},
        points={"transcripts": PointsModel.parse(points, feature_key="gene", transformations={"global": Identity()})},
    )
    scores = sjg.tl.evaluate(judged, "judged_cells", reference=reference).set_index("metric")["value"]
    found = {name: scores.get(f"{name}_posterior" if cell is not None else name, scores.get(name)) for name in METRICS}
    return {name: float(value) for name, value in found.items() if value is not None and np.isfinite(value)}


def shares_in_cells(nuclei: np.ndarray, points: pd.DataFrame, cell: np.ndarray) -> dict[str, float]:
    """Share of the transcripts in and outside nuclei that are in cells."""
    inside = nuclei[points["y"].astype(int), points["x"].astype(int)] > 0
    return {"share_in_nuclei": float((cell[inside] > 0).mean()), "share_outside": float((cell[~inside] > 0).mean())}


def shares_by_density(nuclei: np.ndarray, points: pd.DataFrame) -> dict[str, float] | None:
    """The same as density has it: what exceeds the density far from all nuclei belongs to cells. None where no place is far."""
    distance = ndimage.distance_transform_edt(nuclei == 0)
    at = distance[points["y"].astype(int), points["x"].astype(int)]
    far = distance > FAR_PX
    if far.mean() < 0.02:
        return None
    background = (at > FAR_PX).sum() / far.sum()
    inside, outside = (
        1 - background * where.sum() / count for where, count in ((distance == 0, (at == 0).sum()), (distance > 0, (at > 0).sum()))
    )
    everywhere = 1 - background * distance.size / len(at)
    return {"fraction_assigned": float(everywhere), "share_in_nuclei": float(inside), "share_outside": float(outside)}


def other_tool(name: str, sdata: SpatialData, reference: pd.DataFrame | None, *, pixel_size_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels (nuclei where the tool has none) and cell of each transcript."""
    nuclei, points = np.asarray(sdata["nuclei"]), sdata["transcripts"].compute()
    genes = list(points["gene"].cat.categories)
    arrays: dict[str, Any] = {
        "nuclei": nuclei,
        "yx_px": points[["y", "x"]].to_numpy(float),
        "gene": points["gene"].cat.codes.to_numpy(np.int64),
        "gene_names": np.array(genes),
        "pixel_size_um": pixel_size_um,
        "cell_diameter_um": 12.0,
    }
    if reference is not None:
        arrays |= {"profiles": reference.reindex(genes).fillna(0).to_numpy(float).T, "type_names": np.array(list(reference.columns))}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez_compressed(source, **arrays)
        subprocess.run(
            [ENVIRONMENTS / name / "bin" / "python", HERE / "external" / f"run_{name}.py", source, target],
            check=True,
            cwd=folder,
            capture_output=True,
        )
        with np.load(target) as found:
            return found.get("labels", nuclei), found["cell"]


def main() -> None:
    folder = DATA_DIR
    rows = Rows(RESULTS / "real.json", ("section", "method"))
    sections = {"ca1": (ca1, 0.325), "merscope": (merscope, 0.432)}
    for section in sys.argv[1:] or sections:
        make, pixel_size_um = sections[section]
        sdata, vendors = make(folder)
        given = sdata["reference"].to_df().T if "reference" in sdata.tables else None
        reference = type_means(sdata) if given is None else given
        nuclei = np.asarray(sdata["nuclei"])

        def run_sjg(sdata: SpatialData = sdata, given: Any = given, **parameters: Any) -> tuple[np.ndarray, np.ndarray]:
            reference = None if given is None else "reference"
            sjg.tl.segment(sdata, "dapi", nuclei_key="nuclei", reference=reference, parameters=parameters, overwrite=True, progress=False)
            labels, height = np.asarray(sdata["sjg_cells"]), sdata["dapi"].shape[1]
            # the working pixels may be several of the image's
            factor = -(-height // labels.shape[0])
            labels = labels.repeat(factor, 0).repeat(factor, 1)[:height, : sdata["dapi"].shape[2]]
            return labels, sdata["transcripts"]["sjg_cell_id"].compute().to_numpy()

        methods: dict[str, Any] = {"nuclei": lambda nuclei=nuclei: (nuclei, None)}
        for distance in EXPANSIONS_PX:
            methods[f"expansion {distance} px"] = lambda d=distance, nuclei=nuclei: (expand_labels(nuclei, d), None)
        for name, labels in vendors.items():
            methods[name] = lambda labels=labels: (labels, None)
        methods["sjg"] = run_sjg
        if given is not None:
            methods["sjg, reference as it is"] = partial(run_sjg, calibrate_reference=False)
        methods["pciSeq"] = lambda s=sdata, g=given, px=pixel_size_um: other_tool("pciseq", s, g, pixel_size_um=px)
        methods["ComSeg"] = lambda s=sdata, px=pixel_size_um: other_tool("comseg", s, None, pixel_size_um=px)
        points = sdata["transcripts"].compute()
        by_density = shares_by_density(nuclei, points)
        if by_density is not None:
            rows.add({"section": section, "method": "density", **by_density})
        for name, method in methods.items():
            if rows.has(section=section, method=name):
                continue
            before = cpu_seconds()
            try:
                labels, cell = method()
            except (subprocess.CalledProcessError, FileNotFoundError) as error:
                print(f"{section}: {name} failed: {getattr(error, 'stderr', error)}", file=sys.stderr)
                continue
            seconds = cpu_seconds() - before
            assigned = labels[points["y"].astype(int), points["x"].astype(int)] if cell is None else cell
            found = {**judge(sdata, labels, cell, reference), **shares_in_cells(nuclei, points, assigned)}
            rows.add({"section": section, "method": name, **found, "cpu_seconds": seconds})
            print(section, name, flush=True)


if __name__ == "__main__":
    main()
