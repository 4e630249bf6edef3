"""Does the fit of a reference predict molecules that it has not seen? Whole CA1 section, half of the molecules in nuclei held out.

    SJG_DATA_DIR=... python benchmarks/quality/reference_fit.py

For the 71 classes and for these merged by the first part of their names: log-likelihood of a held-out molecule, in nats, under the types and
profiles found from the other half, with the efficiencies of genes alone and with the deviations of types; and how many nuclei are of one
type in both halves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from other_tissue import DATA_DIR
from scipy.sparse import csr_matrix

import sjg
from sjg.expression import as_probabilities, fit_profiles, usual_composition
from sjg.pp._typing import TypingParameters, type_nuclei


def molecules_in_nuclei() -> tuple[NDArray[np.int64], NDArray[np.int64], list[str], NDArray[np.float64]]:
    """Nucleus from 0 and gene of each molecule, names of the classes and their means."""
    section = sjg.datasets.mouse_ca1(DATA_DIR / "mouse_ca1_iss")
    reference, points = section["reference"].to_df(), section["transcripts"].compute()
    nuclei = np.asarray(section["nuclei"])
    row, column = points["y"].to_numpy().astype(int), points["x"].to_numpy().astype(int)
    inside = (row < nuclei.shape[0]) & (column < nuclei.shape[1])
    nucleus = np.zeros(len(points), np.int64)
    nucleus[inside] = nuclei[row[inside], column[inside]]
    gene = reference.columns.get_indexer(points["gene"].astype(str))
    kept = (nucleus > 0) & (gene >= 0)
    return np.unique(nucleus[kept], return_inverse=True)[1], gene[kept], [str(name) for name in reference.index], reference.to_numpy(float)


def main() -> None:
    nucleus, gene, names, means = molecules_in_nuclei()
    first = np.array([name.split(".")[0] for name in names])
    merged = np.stack([means[first == name].mean(0) for name in dict.fromkeys(first)])
    shape = (int(nucleus.max()) + 1, means.shape[1])
    for classes in (means, merged):
        for seed in (0, 1, 2):
            chosen = np.random.default_rng(seed).random(len(gene)) < 0.5
            seen, held_out = (csr_matrix((np.ones(m.sum()), (nucleus[m], gene[m])), shape=shape) for m in (chosen, ~chosen))
            total = np.asarray(seen.sum(0)).ravel()
            given = as_probabilities(classes, total)
            for n_revisions in (0, 3):
                settings = TypingParameters(n_revisions=n_revisions)
                posterior, other = (type_nuclei(counts, classes, parameters=settings) for counts in (seen, held_out))
                found = fit_profiles(given, np.asarray(seen.T @ posterior).T)
                weighted = given * found.efficiency.gene
                scores = {}
                for label, profiles in (("efficiencies", weighted / weighted.sum(1, keepdims=True)), ("deviations too", found.nuclear)):
                    expected = posterior @ usual_composition(profiles, total)
                    scores[label] = round(float(held_out.multiply(np.log(expected)).sum() / held_out.sum()), 4)
                agreement = (posterior.argmax(1) == other.argmax(1)).mean()
                print(len(classes), "classes, seed", seed, "revisions", n_revisions, scores, f"same type in both halves {agreement:.3f}")


if __name__ == "__main__":
    main()
