"""A reference of another assay costs next to nothing: efficiencies differ by a factor of three, and types lack genes."""

from __future__ import annotations

import numpy as np
import pytest

import sjg

SPREAD = 1.1  # as measured on the hippocampus section of Qian et al. against its scRNA-seq


def _right(sdata, **parameters) -> float:
    parameters = {"use_network": False, "n_orientations": 1, **parameters}
    sjg.tl.segment(sdata, "dapi", nuclei_key="nuclei", reference="reference", parameters=parameters, overwrite=True, progress=False)
    points = sdata["transcripts"].compute()
    nucleus = np.r_[0, sdata["sjg_table"].obs["nucleus_id"].to_numpy()]
    return float((nucleus[points["sjg_cell_id"].to_numpy()] == points["true_cell"].to_numpy()).mean())


@pytest.mark.parametrize("transcripts_per_cell", [40, 120])
def test_a_reference_of_another_assay_costs_next_to_nothing(transcripts_per_cell):
    tissue = {"size_um": (112, 112), "transcripts_per_cell": transcripts_per_cell, "random_state": 11}
    same = sjg.datasets.simulated_tissue(**tissue)
    other = sjg.datasets.simulated_tissue(**tissue, reference_spread=SPREAD)
    exact, calibrated, as_it_is = _right(same), _right(other), _right(other, calibrate_reference=False)
    assert calibrated > exact - 0.01
    # else the test could not fail
    assert as_it_is < exact - 0.03


def test_a_reference_without_two_of_the_types_costs_little():
    sdata = sjg.datasets.simulated_tissue(size_um=(112, 112), random_state=12)
    exact = _right(sdata)
    common = sdata["truth"].obs["cell_type"].value_counts().index[:2]
    reference = sdata["reference"]
    sdata["reference"] = reference[~reference.obs_names.isin(common)].copy()
    assert _right(sdata) > exact - 0.02
    assert _right(sdata, calibrate_reference=False) < exact - 0.02
