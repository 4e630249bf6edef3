"""Runs ComSeg in its own environment: run_comseg.py IN.npz OUT.npz.

Nuclei and transcripts in (ComSeg takes no reference), the cell of each transcript and ComSeg's own outlines (alpha shapes) out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from comseg import dataset as comseg_dataset
from comseg import dictionary as comseg_dictionary
from skimage.draw import polygon

#: share of the convex hull's tightness, as in ComSeg's tutorial
ALPHA = 0.5
SEED = 0


def main(source: str, target: str) -> None:
    data = np.load(source)
    yx, nuclei, px = data["yx_px"], data["nuclei"], float(data["pixel_size_um"])
    diameter_um = float(data["cell_diameter_um"])
    with tempfile.TemporaryDirectory() as folder:
        spots, masks = Path(folder) / "spots", Path(folder) / "masks"
        spots.mkdir()
        masks.mkdir()
        frame = pd.DataFrame({"x": yx[:, 1], "y": yx[:, 0], "z": 0, "gene": data["gene_names"][data["gene"]], "row": np.arange(len(yx))})
        frame.to_csv(spots / "tissue.csv", index=False)
        tifffile.imwrite(masks / "tissue.tiff", nuclei.astype(np.int32))
        np.random.seed(SEED)  # noqa: NPY002 - what ComSeg draws from
        dataset = comseg_dataset.ComSegDataset(
            path_dataset_folder=str(spots),
            path_to_mask_prior=str(masks),
            dict_scale={"x": px, "y": px, "z": 1.0},
            mean_cell_diameter=diameter_um,
            gene_column="gene",
            prior_name="in_nucleus",
            disable_tqdm=True,
        )
        dataset.add_prior_from_mask(overwrite=True, compute_centroid=True)
        dataset.compute_edge_weight(n_neighbors=40, sampling=True, sampling_size=10_000)
        graphs = comseg_dictionary.ComSegDict(
            dataset=dataset, mean_cell_diameter=diameter_um, community_detection="with_prior", seed=SEED, disable_tqdm=True
        )
        graphs.run_all(max_cell_radius=diameter_um, disable_tqdm=True)
        _, shapes = graphs.anndata_from_comseg_result(alpha=ALPHA, min_rna_per_cell=3, allow_disconnected_polygon=True)
        found = graphs["tissue"].final_anndata.uns["df_spots"]
    cell = np.zeros(len(yx), np.int64)
    if len(found) != len(yx) or not np.allclose(found[["x", "y"]].to_numpy(float), yx[:, ::-1]):
        raise SystemExit("ComSeg returned other transcripts than it was given")
    cell[:] = found["cell_index_pred"].to_numpy(np.int64)
    labels = nuclei.astype(np.int32).copy()
    for shape in shapes["tissue"]["geometries"]:
        outline = np.asarray(shape["coordinates"][0])
        rows, columns = polygon(outline[:, 1], outline[:, 0], labels.shape)
        free = labels[rows, columns] == 0
        labels[rows[free], columns[free]] = shape["cell"]
    np.savez_compressed(target, cell=cell, labels=labels)


if __name__ == "__main__":
    main(*sys.argv[1:])
