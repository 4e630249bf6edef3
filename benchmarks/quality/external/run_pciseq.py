"""Runs pciSeq in its own environment: run_pciseq.py IN.npz OUT.npz.

Nuclei, transcripts and class means in, the most probable cell of each transcript and its probability out. Settings are pciSeq's own; its
density of misreads did worse where it was set to the true one (0.58 against 0.72 of transcripts right on the base case).
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pciSeq
from scipy.sparse import coo_matrix


def main(source: str, target: str) -> None:
    data = np.load(source)
    genes, yx = data["gene_names"][data["gene"]], data["yx_px"]
    spots = pd.DataFrame({"Gene": genes, "x": yx[:, 1].astype(np.int64), "y": yx[:, 0].astype(np.int64)})
    reference = None
    if "profiles" in data:
        reference = pd.DataFrame(data["profiles"].T, index=data["gene_names"], columns=data["type_names"])
        known = spots["Gene"].isin(reference.index).to_numpy()
    options = {"launch_diagnostics": False, "save_data": False}
    _, found = pciSeq.fit(spots=spots, coo=coo_matrix(data["nuclei"]), scRNAseq=reference, opts=options)
    # pciSeq drops spots of genes without a reference and keeps the order of the others
    rows = np.flatnonzero(known) if reference is not None else np.arange(len(spots))
    if len(found) != len(rows):
        raise SystemExit(f"pciSeq returned {len(found)} of {len(rows)} transcripts")
    # it renumbers labels that have gaps
    ids = np.unique(data["nuclei"])
    ids = ids if ids[0] == 0 else np.r_[0, ids]
    cell, confidence = np.zeros(len(spots), np.int64), np.zeros(len(spots))
    cell[rows] = ids[found["neighbour"].to_numpy(np.int64)]
    confidence[rows] = [probability[0] for probability in found["neighbour_prob"]]
    np.savez_compressed(target, cell=cell, confidence=confidence)


if __name__ == "__main__":
    main(*sys.argv[1:])
