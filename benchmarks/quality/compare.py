"""sjg beside what a user would pick instead, on simulated tissue with known cells.

    python benchmarks/quality/external/environments.py          # once: pciSeq and ComSeg
    python benchmarks/quality/compare.py --seeds 0 1 2          # every condition and method; skips what is done
    python benchmarks/quality/figure.py                         # the figure of docs/comparison.md; its tables read the rows

Rows go to results/simulated.json, one for each condition, seed and method; those of larger tissue (--size-um 256) to a file of their own.
--again repeats the named methods.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from conditions import CONDITIONS, make_case
from methods import METHODS, timed
from scores import RESULTS, Rows, score

KEY = ("condition", "method", "seed", "size_um")
#: side of the tissues of the tables
SIZE_UM = 128.0


def cpu_seconds() -> float:
    """CPU time of this process and of the ones it has waited for: the machine may be shared."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=list(CONDITIONS))
    # the option is for tissue with missed nuclei; ask for it there
    parser.add_argument("--methods", nargs="+", default=[name for name in METHODS if name != "sjg, find_missed"], choices=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size-um", type=float, default=SIZE_UM)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--until", type=float, default=float("inf"), help="start no further run after this many minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = "simulated.json" if arguments.size_um == SIZE_UM else f"simulated_{arguments.size_um:g}_um.json"
    rows, started = Rows(RESULTS / file, KEY), time.monotonic()
    for seed in arguments.seeds:
        for name in arguments.conditions:
            key = {"condition": name, "seed": seed, "size_um": arguments.size_um}
            methods = [m for m in arguments.methods if arguments.again or not rows.has(method=m, **key)]
            case = make_case(name, seed, size_um=arguments.size_um) if methods else None
            for method in methods:
                if time.monotonic() - started > 60 * arguments.until:
                    return
                before = cpu_seconds()
                try:
                    result, seconds = timed(METHODS[method], case)
                except subprocess.CalledProcessError as error:
                    print(f"{name}, seed {seed}: {method} failed\n{error.stderr[-2000:]}", file=sys.stderr)
                    continue
                scores = score(case, result)
                cost = {"seconds": seconds, "cpu_seconds": cpu_seconds() - before}
                rows.add({**key, "method": method, **scores, **cost})
                print(name, seed, method, *(f"{k} {v:.3f}" for k, v in scores.items() if k in ("transcripts_right", "mean_iou", "f1_75")))


if __name__ == "__main__":
    main()
