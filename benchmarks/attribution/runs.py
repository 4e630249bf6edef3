"""Gene importance of whole runs: known markers, stability over seeds and under removal of half of the genes.

    python benchmarks/attribution/runs.py simulated ca1 bound [--preset fast]

``ca1`` and ``bound`` need ``SJG_DATA_DIR``; ``bound`` trains nothing: it asks what half of the genes leaves of the types of nuclei. Training and importance are those of the preset; the passes over the whole tissue after the training, which revise types and
draw cells, are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from importance import auroc
from report import write
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr

from sjg import access
from sjg.attribution import GeneImportance
from sjg.core import CellTypes, Molecules, generator
from sjg.datasets import mouse_ca1, simulated_tissue
from sjg.pp._typing import type_nuclei
from sjg.tl._inputs import Request, read_arrays
from sjg.training import PRESETS, Parameters, Tissue, load_model, make_fabric
from sjg.training._importance import gather_importance
from sjg.training._model import CompetitionModel
from sjg.training._network_store import store_model
from sjg.training._run import make_trainer
from sjg.training._state import CellState

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

    def counts(self) -> csr_matrix:
        """(n, G) transcripts in nuclei."""
        pixel = np.floor(self.molecules.yx_px).astype(int)
        nucleus = self.nuclei[pixel[:, 0], pixel[:, 1]]
        shape = (int(self.nuclei.max()), len(self.molecules.gene_names))
        return csr_matrix(access.count_matrix(nucleus[nucleus > 0], self.molecules.gene[nucleus > 0], shape))

    def types(self) -> CellTypes:
        """Start types by the reference, as in a run."""
        posterior = type_nuclei(self.counts(), self.profiles)
        return CellTypes(self.names, posterior.argmax(1).astype(np.int32), posterior.max(1).astype(np.float32), self.profiles)


@dataclass(frozen=True)
class Trained:
    """A run as far as gene importance needs it."""

    tissue: Tissue
    model: CompetitionModel
    state: CellState
    parameters: Parameters


AurocOf = Callable[[np.ndarray, np.ndarray], dict[str, float]]


def read(sdata: object) -> Arrays:
    request = Request(None, None, "nuclei", None, "reference", None, None, "global", None, None, None, None, 0)
    arrays = read_arrays(sdata, request)  # type: ignore[arg-type]
    names, profiles = arrays.reference  # type: ignore[misc]
    return Arrays(arrays.molecules, arrays.nuclei, names, profiles)


def trained(arrays: Arrays, preset: str, random_state: int, *, cache: Path | None = None) -> Trained:
    """The network of a run and its cells; from `cache` where they were computed before."""
    parameters = PRESETS[preset].replace(revise_profiles=False)  # as in a run with a reference
    tissue = Tissue(arrays.molecules, arrays.nuclei, parameters)
    if cache is not None and cache.exists():
        model, state, _ = load_model(np.load(cache, allow_pickle=True).item())  # written below
        return Trained(tissue, model, state, parameters)
    start = time.process_time()
    trainer = make_trainer(tissue, arrays.types(), parameters, make_fabric("cpu"), random_state)
    while not trainer.finished:
        trainer.train_step()
        if trainer.round_is_over:
            trainer.end_round()
    print(f"run of {len(arrays.molecules.gene_names)} genes, seed {random_state}: {time.process_time() - start:.0f} s", flush=True)
    model = trainer.averaged_model()
    if cache is not None:
        np.save(cache, store_model(model, trainer.state, parameters), allow_pickle=True)  # type: ignore[arg-type]
    return Trained(tissue, model, trainer.state, parameters)


def scores(run: Trained, random_state: int) -> dict[str, np.ndarray]:
    """(G, K) importance by each rule; the first is that of a run."""
    run.model.requires_grad_(False)
    types = list(range(run.state.posterior.shape[1]))
    counted, by_cells = (
        gather_importance(run.model, run.tissue, run.state, run.parameters, rng=generator(random_state, 4), types=types, by_cells=by_cells)
        for by_cells in (False, True)
    )
    expected = {"composition": run.state.profiles, "strength": run.parameters.profile_strength}
    # the rule of a run comes first
    by_rule = {f"shrunk to profiles, specificity {s}": by_cells.result(specificity=s, **expected) for s in (2, 1, 0)}  # type: ignore[arg-type]
    by_rule |= {f"specificity {s}": counted.result(specificity=s) for s in (2, 1, 0, 3)}
    return {rule: score.numpy() for rule, score in by_rule.items()}


def rank_correlation(first: np.ndarray, second: np.ndarray, types: np.ndarray) -> dict[str, float]:
    """Over genes; mean and worst of the types."""
    found = [float(spearmanr(first[:, t], second[:, t])[0]) for t in types]
    return {"mean": round(float(np.mean(found)), 3), "worst type": round(min(found), 3)}


def typing_bound(arrays: Arrays, seed: int) -> dict[str, object]:
    """What half of a panel does to types found in nuclei, without any network: cells that keep theirs, and ranks of the shares of transcripts."""
    kept = arrays.half(seed)[1]
    every = arrays.counts().tocoo()
    cell, gene = (np.repeat(one, every.data.astype(int)) for one in (every.row, every.col))
    posterior, shares = [], []
    for genes in (np.arange(every.shape[1]), kept):
        posterior.append(type_nuclei(every.tocsr()[:, genes], arrays.profiles[:, genes]))
        code = np.full(every.shape[1], -1)
        code[genes] = np.arange(len(genes))
        asked = code[gene] >= 0
        where = torch.as_tensor(posterior[-1][cell[asked]].T)
        gathered = GeneImportance(len(genes), len(arrays.names))
        gathered.add(torch.ones_like(where), gene=torch.as_tensor(code[gene[asked]]), weight=where)
        expected = torch.as_tensor(arrays.profiles[:, genes])
        rules = {"counts alone": None, "shrunk to profiles": expected + 1e-3 * expected.mean(1, keepdim=True)}
        # the effect of every transcript is 1: what is left is the share
        shares.append(
            {
                rule: (gathered.result(specificity=1, composition=one) - gathered.result(specificity=0, composition=one)).numpy()
                for rule, one in rules.items()
            }
        )
    cells = np.bincount(posterior[0].argmax(1), minlength=len(arrays.names))
    enough = np.asarray(every.sum(1)).ravel() > 5
    same = posterior[0].argmax(1)[enough] == posterior[1].argmax(1)[enough]
    types = np.flatnonzero(cells >= MIN_CELLS)
    found = {f"share, {rule}": rank_correlation(shares[0][rule][kept], shares[1][rule], types)["mean"] for rule in shares[0]}
    return {"cells that keep their type": round(float(same.mean()), 3), **found}


def stability(
    arrays: Arrays, preset: str, name: str, cache: Path | None, seeds: tuple[int, int], auroc_of: AurocOf | None
) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    """Rank correlations over genes of the types with enough cells, for each rule."""
    halved, kept = arrays.half(seeds[0])
    runs = {
        label: trained(data, preset, seed, cache=None if cache is None else cache / f"{name}_{label}.npy")
        for label, data, seed in (("first", arrays, seeds[0]), ("second", arrays, seeds[1]), ("half", halved, seeds[0]))
    }
    by_rule = {label: scores(run, seeds[label == "second"]) for label, run in runs.items()}
    cells = np.bincount(runs["first"].state.posterior.argmax(1).numpy(), minlength=len(arrays.names))
    types = np.flatnonzero(cells >= MIN_CELLS)
    rules = {
        rule: {
            "two seeds": rank_correlation(first, by_rule["second"][rule], types),
            "half of the genes": rank_correlation(first[kept], by_rule["half"][rule], types),
            **({} if auroc_of is None else {"AUROC of markers": auroc_of(first, types)}),
        }
        for rule, first in by_rule["first"].items()
    }
    record = {
        "types with enough cells": {arrays.names[t]: int(cells[t]) for t in types},
        "rules": rules,
    }
    return record, next(iter(by_rule["first"].values())), cells


def simulated(preset: str, seed: int, cache: Path | None) -> dict[str, object]:
    sdata = simulated_tissue(size_um=(128, 128), random_state=seed)
    arrays = read(sdata)
    reference = sdata["reference"]
    order = [list(reference.var_names).index(name) for name in arrays.molecules.gene_names]
    marker_of = reference.var["marker_of"].astype(str).to_numpy()[order]

    def auroc_of(score: np.ndarray, types: np.ndarray) -> dict[str, float]:
        areas = [auroc(score[:, t], marker_of == arrays.names[t]) for t in types]
        return {"mean": round(float(np.mean(areas)), 3), "worst type": round(min(areas), 3)}

    return stability(arrays, preset, f"simulated_{seed}", cache, (0, 1), auroc_of)[0]


def marker_ranks(score: np.ndarray, genes: list[str], names: tuple[str, ...], cells: np.ndarray) -> dict[str, object]:
    """Ranks of the known markers in the types named after them that have two cells or more."""
    rank = (-score).argsort(0).argsort(0) + 1
    ranks = {
        marker: {
            f"{name} ({cells[t]})": int(rank[genes.index(marker), t]) for t, name in enumerate(names) if part in name and cells[t] >= 2
        }
        for marker, part in MARKERS.items()
    }
    flat = [r for by_type in ranks.values() for r in by_type.values()]
    enough = [
        int(rank[genes.index(marker), t])
        for marker, part in MARKERS.items()
        for t, name in enumerate(names)
        if part in name and cells[t] >= MIN_CELLS
    ]
    return {
        "in the top ten": f"{sum(r <= 10 for r in flat)} of {len(flat)}",
        f"in the top ten, types of {MIN_CELLS} cells or more": f"{sum(r <= 10 for r in enough)} of {len(enough)}",
        "ranks": ranks,
    }


def ca1(preset: str, cache: Path | None, seeds: tuple[int, int]) -> dict[str, object]:
    arrays = read(mouse_ca1())
    record, first, cells = stability(arrays, preset, "ca1", cache, seeds, None)
    return {**record, "known markers": marker_ranks(first, list(arrays.molecules.gene_names), arrays.names, cells)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="+", choices=("simulated", "ca1", "bound"))
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--tissues", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--seeds", type=int, nargs=2, default=[0, 1], help="of the two runs on CA1; the first also draws the half of the genes"
    )
    parser.add_argument("--cache", type=Path, help="folder for the trained networks, so that an interrupted benchmark goes on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.cache is not None:
        arguments.cache.mkdir(parents=True, exist_ok=True)
    if "simulated" in arguments.what:
        write("rules_simulated", {f"tissue {seed}": simulated(arguments.preset, seed, arguments.cache) for seed in arguments.tissues})
    if "bound" in arguments.what:
        arrays = read(mouse_ca1())
        write("half_panel_ca1", {f"half {seed}": typing_bound(arrays, seed) for seed in range(4)})
    if "ca1" in arguments.what:
        write("rules_ca1", ca1(arguments.preset, arguments.cache, tuple(arguments.seeds)))


if __name__ == "__main__":
    main()
