"""What each part of sjg is worth: a preset with one part left out or added at a time.

    python benchmarks/quality/ablation.py --seeds 0 1 2

Rows go to results/ablation.json; what is done is skipped.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from compare import cpu_seconds
from conditions import CONDITIONS, Case, make_case
from methods import Method, Result, sjg_method, timed
from scores import RESULTS, Rows, score
from skimage.segmentation import expand_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = ("condition", "method", "seed", "size_um", "preset")
#: what trains the competition on the tissue itself needs longer
LONG = {"use_claims": False, "n_rounds": 3, "steps_per_round": 150}


@dataclass(frozen=True)
class Variant:
    """A change of a preset.

    Parameters
    ----------
    parameters
        Settings of ``sjg.training.Parameters`` that differ.
    arguments
        Arguments of ``sjg.tl.segment`` that differ.
    no_background
        Places and transcripts that were called background go to the nearest cell.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    no_background: bool = False


VARIANTS: dict[str, Variant] = {
    "all parts": Variant(),
    "without self-training (no network of the run)": Variant({"use_network": False}),
    "without confident labels": Variant({"pseudo_weight": 0.0}),
    "without claims (competition trained on the tissue)": Variant(LONG),
    "without claims and held-out molecules": Variant({**LONG, "held_out": False}),
    "without background": Variant(no_background=True),
    "with attribution gate": Variant({"attribution_gate": "evidence", "attribution_epoch": 0}),
    "without nuclei in the network's input": Variant({"use_context": False}),
    "reference as it is": Variant({"calibrate_reference": False}),
    "without reference": Variant(arguments={"reference": None}),
    "without revision of types": Variant({"revise_types": False}),
    "without expression of single cells": Variant({"own_profiles": False}),
    "noise composed as all molecules": Variant({"false_calls": False}),
    "without turned views": Variant({"n_orientations": 1}),
    "transcripts by mask": Variant(arguments={"assignment": "mask"}),
}


def method_of(variant: Variant, preset: str) -> Method:
    plain = sjg_method(preset, variant.parameters, variant.arguments)
    if not variant.no_background:
        return plain

    def run(case: Case) -> Result:
        result = plain(case)
        labels = expand_labels(result.labels, max(case.truth.shape))
        return replace(result, labels=labels, cell=np.where(result.cell > 0, result.cell, labels[case.pixel]), confidence=None)

    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--conditions", nargs="+", default=["base", "second simulator, 40"], choices=list(CONDITIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--size-um", type=float, default=128)
    parser.add_argument("--until", type=float, default=float("inf"), help="start no further run after this many minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, started = Rows(RESULTS / "ablation.json", KEY), time.monotonic()
    for seed in arguments.seeds:
        for condition in arguments.conditions:
            key = {"condition": condition, "seed": seed, "size_um": arguments.size_um, "preset": arguments.preset}
            for name in arguments.variants:
                if rows.has(method=name, **key):
                    continue
                if time.monotonic() - started > 60 * arguments.until:
                    return
                case, before = make_case(condition, seed, size_um=arguments.size_um), cpu_seconds()
                result, seconds = timed(method_of(VARIANTS[name], arguments.preset), case)
                rows.add({**key, "method": name, **score(case, result), "seconds": seconds, "cpu_seconds": cpu_seconds() - before})
                print(condition, seed, name, file=sys.stderr)


if __name__ == "__main__":
    main()
