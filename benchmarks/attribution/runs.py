"""Gene importance of whole runs: known markers, stability over seeds and under removal of half of the genes.

    python benchmarks/attribution/runs.py simulated ca1 [--preset fast]

``ca1`` needs ``SJG_DATA_DIR``. Training and importance are those of the preset; the final pass over the pixels, which does not enter, is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from importance import auroc
from report import write
from scipy.stats import spearmanr

from sjg import access
from sjg.core import CellTypes, Molecules, generator
from sjg.datasets import mouse_ca1, simulated_tissue
from sjg.pp._typing import type_nuclei
from sjg.tl._inputs import Request, read_arrays
from sjg.training import PRESETS, Tissue, make_fabric
from sjg.training._importance import gene_importance
from sjg.training._run import make_trainer

#: ranks of a type with fewer cells say little
MIN_CELLS = 10
#: a marker and the classes of the reference of which it is one (Zeisel, Tasic, Qian nomenclature: the name of the class holds it)
MARKERS = {
    "Plp1": "Oligo",
    "Sst": "Sst.",
    "Pvalb": "Pvalb.",
    "Vip": "Vip",
    "Cxcl14": "Cxcl14",
    "Npy": "Npy",
}


@dataclass(frozen=True)
class Arrays:
    """What a run starts from."""

    molecules: Molecules
    nuclei: np.ndarray
    names: tuple[str, ...]
    profiles: np.ndarray

    def half(self, seed: int) -> tuple[Arrays, np.ndarray]:
        """The same tissue measured with a random half of the genes, and their positions."""
        n_genes = len(self.molecules.gene_names)
        kept = np.sort(np.random.default_rng(seed).permutation(n_genes)[: n_genes // 2])
        code = np.full(n_genes, -1)
        code[kept] = np.arange(len(kept))
        row = code[self.molecules.gene] >= 0
        gene = code[self.molecules.gene[row]].astype(np.int32)
        molecules = Molecules(self.molecules.yx_px[row], gene, tuple(self.molecules.gene_names[i] for i in kept))
        return Arrays(molecules, self.nuclei, self.names, self.profiles[:, kept]), kept

    def types(self) -> CellTypes:
        """Start types by the reference, as in a run."""
        pixel = np.floor(self.molecules.yx_px).astype(int)
        nucleus = self.nuclei[pixel[:, 0], pixel[:, 1]]
        shape = (int(self.nuclei.max()), len(self.molecules.gene_names))
        counts = access.count_matrix(nucleus[nucleus > 0], self.molecules.gene[nucleus > 0], shape)
        posterior = type_nuclei(counts, self.profiles)
        return CellTypes(self.names, posterior.argmax(1).astype(np.int32), posterior.max(1).astype(np.float32), self.profiles)


def read(sdata: object) -> Arrays:
    request = Request(None, None, "nuclei", None, "reference", None, None, "global", None, None, None, None, 0)
    arrays = read_arrays(sdata, request)  # type: ignore[arg-type]
    names, profiles = arrays.reference  # type: ignore[misc]
    return Arrays(arrays.molecules, arrays.nuclei, names, profiles)


def importance(arrays: Arrays, preset: str, random_state: int, *, cache: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(G, K) importance and the number of cells of each type; from `cache` where it was computed before."""
    if cache is not None and cache.exists():
        stored = np.load(cache)
        return stored["importance"], stored["cells"]
    parameters = PRESETS[preset]
    start = time.process_time()
    tissue = Tissue(arrays.molecules, arrays.nuclei, parameters)
    trainer = make_trainer(tissue, arrays.types(), parameters, make_fabric("cpu"), random_state)
    while trainer.step < trainer.n_steps:
        trainer.train_step()
        if trainer.step % parameters.steps_per_round == 0:
            trainer.end_round()
    found = gene_importance(trainer.averaged_model(), tissue, trainer.state, parameters, rng=generator(random_state, 4))
    cells = np.bincount(trainer.state.posterior.argmax(1).numpy(), minlength=len(arrays.names))
    print(f"run of {len(arrays.molecules.gene_names)} genes, seed {random_state}: {time.process_time() - start:.0f} s", flush=True)
    if cache is not None:
        np.savez(cache, importance=found, cells=cells)
    return found, cells


def three_runs(
    arrays: Arrays, preset: str, name: str, cache: Path | None, which: Sequence[str] = ("seed 0", "seed 1", "half")
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Importance with two seeds, and with half of the genes."""
    found = []
    for one in which:
        file = None if cache is None else cache / f"{name}_{one.replace(' ', '_')}.npz"
        found.append(importance(arrays.half(0)[0] if one == "half" else arrays, preset, int(one == "seed 1"), cache=file))
    return found


def stability(arrays: Arrays, preset: str, name: str, cache: Path | None) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    """Rank correlations over genes of the types with enough cells."""
    (first, cells), (second, _), (halved, _) = three_runs(arrays, preset, name, cache)
    kept = arrays.half(0)[1]
    types = np.flatnonzero(cells >= MIN_CELLS)
    seeds = [float(spearmanr(first[:, t], second[:, t])[0]) for t in types]
    half = [float(spearmanr(first[kept, t], halved[:, t])[0]) for t in types]
    record = {
        "types": {arrays.names[t]: int(cells[t]) for t in types},
        "seeds": round(float(np.mean(seeds)), 3),
        "seeds, worst type": round(min(seeds), 3),
        "half of the genes": round(float(np.mean(half)), 3),
        "half of the genes, worst type": round(min(half), 3),
    }
    return record, first, cells


def simulated(preset: str, seed: int, cache: Path | None) -> dict[str, object]:
    sdata = simulated_tissue(size_um=(128, 128), random_state=seed)
    arrays = read(sdata)
    record, first, cells = stability(arrays, preset, f"simulated_{seed}", cache)
    reference = sdata["reference"]
    order = [list(reference.var_names).index(name) for name in arrays.molecules.gene_names]
    marker_of = reference.var["marker_of"].astype(str).to_numpy()[order]
    areas = {name: auroc(first[:, t], marker_of == name) for t, name in enumerate(arrays.names) if cells[t] >= MIN_CELLS}
    return {**record, "AUROC of markers": round(float(np.mean(list(areas.values()))), 3), "worst type": round(min(areas.values()), 3)}


def ca1(preset: str, cache: Path | None) -> dict[str, object]:
    arrays = read(mouse_ca1())
    record, first, cells = stability(arrays, preset, "ca1", cache)
    genes = list(arrays.molecules.gene_names)
    rank = (-first).argsort(0).argsort(0) + 1
    ranks = {
        marker: {
            f"{name} ({cells[t]} cells)": int(rank[genes.index(marker), t])
            for t, name in enumerate(arrays.names)
            if part in name and cells[t] >= 2
        }
        for marker, part in MARKERS.items()
    }
    all_ranks = [r for by_type in ranks.values() for r in by_type.values()]
    return {**record, "ranks of known markers": ranks, "in the top ten": f"{sum(r <= 10 for r in all_ranks)} of {len(all_ranks)}"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="+", choices=("simulated", "ca1"))
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--cache", type=Path, help="folder for the runs, so that an interrupted benchmark goes on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "simulated" in arguments.what:
        write("runs_simulated", {f"tissue {seed}": simulated(arguments.preset, seed, arguments.cache) for seed in arguments.seeds})
    if "ca1" in arguments.what:
        write("runs_ca1", ca1(arguments.preset, arguments.cache))


if __name__ == "__main__":
    main()
