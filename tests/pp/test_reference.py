from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import sjg
from sjg.core import InputError, MissingElementError
from sjg.pp._reference import resolve_reference
from sjg.pp._typing import type_nuclei

GENES = [f"g{i}" for i in range(8)]


@pytest.fixture
def means():
    """DataFrame genes x classes."""
    return pd.DataFrame(np.random.default_rng(0).gamma(1.0, size=(8, 3)), index=GENES, columns=["A", "B", "C"])


def test_same_profiles_from_every_form(means):
    rng = np.random.default_rng(1)
    order = rng.permutation(8)
    names, profiles = resolve_reference(means.iloc[order], None, GENES)
    assert names == ("A", "B", "C")
    np.testing.assert_allclose(profiles, means.to_numpy().T)
    classes = AnnData(means.to_numpy().T, obs=pd.DataFrame(index=list("ABC")), var=pd.DataFrame(index=GENES))
    np.testing.assert_allclose(resolve_reference(classes, None, GENES)[1], profiles)
    sdata = sjg.datasets.simulated_tissue(size_um=(48, 48), n_genes=20)
    sdata.tables["means"] = classes
    np.testing.assert_allclose(resolve_reference("means", sdata, GENES)[1], profiles)


@pytest.mark.parametrize("sparse", [False, True])
def test_cells_are_averaged(sparse):
    rng = np.random.default_rng(2)
    counts = rng.poisson(3, size=(30, 8)).astype(np.float32)
    kind = np.array(["x", "y", None] * 10, dtype=object)
    cells = AnnData(csr_matrix(counts) if sparse else counts, obs=pd.DataFrame({"type": kind}, index=map(str, range(30))))
    cells.var_names = GENES
    names, profiles = resolve_reference(cells, None, GENES, "type")
    assert names == ("x", "y")
    np.testing.assert_allclose(profiles, [counts[kind == "x"].mean(axis=0), counts[kind == "y"].mean(axis=0)], rtol=1e-5)
    cells.layers["counts"] = cells.X.copy()
    cells.X = -cells.X
    np.testing.assert_allclose(resolve_reference(cells, None, GENES, "type")[1], profiles)


def test_a_gene_without_a_reference_says_nothing(means):
    counts = np.random.default_rng(3).poisson(2, size=(1, 8))
    alone = type_nuclei(counts, resolve_reference(means, None, GENES)[1])
    names = [*GENES, "new"]
    with_new = np.column_stack([counts, [50]])
    profiles = resolve_reference(means, None, names)[1]
    shares = profiles / profiles.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares[:, -1], shares[0, -1])
    assert type_nuclei(with_new, profiles).argmax() == alone.argmax()


def test_a_silent_class_is_left_out(means):
    means["silent"] = 0.0
    assert resolve_reference(means, None, GENES)[0] == ("A", "B", "C")


def test_errors_say_what_was_seen_and_how_to_mend_it(means):
    with pytest.raises(InputError, match=r"share 3 genes.*g0, g1, g2.*g0, g1, g2, x, y"):
        resolve_reference(means, None, ["g0", "g1", "g2", "x", "y", "z"])
    with pytest.raises(InputError, match="upper and lower case"):
        resolve_reference(means.rename(index=str.upper), None, GENES)
    with pytest.raises(InputError, match="transpose"):
        resolve_reference(means.T, None, GENES)
    with pytest.raises(InputError, match="gene g0 more than once"):
        resolve_reference(pd.concat([means, means.iloc[:1]]), None, GENES)
    with pytest.raises(InputError, match="0 or more"):
        resolve_reference(-means, None, GENES)
    with pytest.raises(InputError, match="fill or drop missing"):
        resolve_reference(means.mask(means > 1), None, GENES)
    with pytest.raises(MissingElementError, match="names no table.*none"):
        resolve_reference("other", None, GENES)


def test_cells_without_types_are_no_class_means():
    cells = AnnData(np.ones((600, 8)), obs=pd.DataFrame({"celltype": ["a"] * 600}, index=map(str, range(600))))
    cells.var_names = GENES
    with pytest.raises(InputError, match="cell_type_key=; there are: celltype"):
        resolve_reference(cells, None, GENES)
    cells.X = -cells.X
    with pytest.raises(InputError, match="raw counts"):
        resolve_reference(cells, None, GENES, "celltype")
