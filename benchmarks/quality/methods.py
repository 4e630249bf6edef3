"""The methods of the quality benchmark: each takes a case and returns cells."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Case
from numpy.typing import NDArray
from skimage.segmentation import expand_labels

import sjg

#: where external/environments.py puts the environments of other tools
ENVIRONMENTS = Path(os.environ.get("SJG_BENCHMARK_ENVIRONMENTS", tempfile.gettempdir() + "/sjg-benchmark-environments"))
HERE = Path(__file__).parent
EXPANSIONS_PX = tuple(range(2, 31, 2))


@dataclass(frozen=True)
class Result:
    """What a method says; ids are those of the nuclei, which are those of the true cells.

    Parameters
    ----------
    labels
        (H, W) masks, None where a method has none.
    cell
        (N,) cell of each transcript, 0 = none.
    confidence
        (N,) probability that it is right, None where a method has none.
    type_name
        Cell id to the name of its type.
    """

    labels: NDArray[np.integer] | None
    cell: NDArray[np.integer]
    confidence: NDArray[np.floating] | None = None
    type_name: Mapping[int, str] | None = None


Method = Callable[[Case], Result]


def by_mask(case: Case, labels: NDArray[np.integer]) -> Result:
    """Masks, with each transcript in the mask where it lies."""
    return Result(labels, labels[case.pixel])


def nuclei_only(case: Case) -> Result:
    return by_mask(case, case.nuclei)


def expansion(distance_px: int) -> Method:
    return lambda case: by_mask(case, expand_labels(case.nuclei, distance_px))


def sjg_method(preset: str, parameters: Mapping[str, Any] | None = None, arguments: Mapping[str, Any] | None = None) -> Method:
    """sjg as a user runs it, for the cells alone.

    With claims the network of the run learns types and genes and never touches the cells: without it they are the same bit for bit
    (tests/training/test_run.py holds that) at half the time, so cells are compared without it.
    """
    if preset != "published" and (parameters or {}).get("use_claims", True):
        parameters = {"use_network": False, **(parameters or {})}

    def run(case: Case) -> Result:
        given: dict[str, Any] = {"reference": "reference" if case.condition.reference else None}
        if "nuclei_table" in case.sdata.tables:
            given["cell_type_key"] = "cell_type"
        sjg.tl.segment(
            case.sdata,
            "dapi",
            nuclei_key="nuclei",
            preset=preset,
            parameters=parameters,
            progress=False,
            overwrite=True,
            **{**given, **(arguments or {})},
        )
        return sjg_result(case.sdata)

    return run


def sjg_result(sdata: Any) -> Result:
    """Read a run, with the ids of the nuclei."""
    table = sdata["sjg_table"].obs
    # cells without a nucleus get ids above those of all true cells, so that they match none by id
    nucleus, above = table["nucleus_id"].to_numpy(), int(np.asarray(sdata["cells"]).max())
    old = np.r_[0, np.where(nucleus > 0, nucleus, above + table["cell_id"].to_numpy())]
    points = sdata["transcripts"][["sjg_cell_id", "sjg_confidence"]].compute()
    return Result(
        old[np.asarray(sdata["sjg_cells"])],
        old[points["sjg_cell_id"].to_numpy()],
        points["sjg_confidence"].to_numpy(),
        dict(zip(old[table["cell_id"].to_numpy()].tolist(), table["cell_type"].astype(str), strict=True)),
    )


def external(name: str) -> Method:
    """A tool in its own environment, with files in between; see external/environments.py."""

    def run(case: Case) -> Result:
        python = ENVIRONMENTS / name / "bin" / "python"
        if not python.exists():
            raise FileNotFoundError(f"{name} has no environment: run python {HERE / 'external' / 'environments.py'} {name}")
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
            write_inputs(case, source)
            script = HERE / "external" / f"run_{name}.py"
            subprocess.run([python, script, source, target], check=True, capture_output=True, text=True, cwd=folder)
            with np.load(target) as found:
                arrays = dict(found)
        return Result(arrays.get("labels"), arrays["cell"], arrays.get("confidence"))

    return run


def write_inputs(case: Case, path: Path) -> None:
    """What another tool is told: nuclei, transcripts, class means where they are given, and the scale of the cells."""
    arrays: dict[str, Any] = {
        "nuclei": case.nuclei,
        "yx_px": case.yx_px,
        "gene": case.gene,
        "gene_names": np.array(case.gene_names),
        "pixel_size_um": case.pixel_size_um,
        # of the mean true cell: a hint that helps, as a user would look it up
        "cell_diameter_um": np.sqrt(4 / np.pi * np.bincount(case.truth.ravel())[1:].mean()) * case.pixel_size_um,
    }
    if case.condition.reference:
        arrays |= {"profiles": case.profiles, "type_names": np.array(case.reference_types)}
    np.savez_compressed(path, **arrays)


def geodesic(case: Case) -> Result:
    from geodesic import geodesic_growth

    return geodesic_growth(case)


METHODS: dict[str, Method] = {
    "nuclei": nuclei_only,
    **{f"expansion {d} px": expansion(d) for d in EXPANSIONS_PX},
    "geodesic growth": geodesic,
    "pciSeq": external("pciseq"),
    "ComSeg": external("comseg"),
    "sjg published": sjg_method("published"),
    "sjg fast": sjg_method("fast"),
    "sjg": sjg_method("default"),
    "sjg, find_missed": sjg_method("default", arguments={"find_missed": True}),
}


def timed(method: Method, case: Case) -> tuple[Result, float]:
    """A result and the seconds it took."""
    start = time.perf_counter()
    result = method(case)
    return result, time.perf_counter() - start
