"""Seconds and memory of the metrics on a pair of 10,000 x 10,000 label images with 100,000 cells and five million transcripts."""

from __future__ import annotations

import resource
import time

import numpy as np

from sjg.metrics import cell_calling_score, matched_instances, segmentation_scores, transcript_assignment

SIDE, N_PER_SIDE = 10_000, 320


def discs(shift_px: int, radius_px: float) -> np.ndarray:
    """A disc in each square of a grid, numbered by row."""
    position, pitch = np.arange(SIDE) + shift_px, SIDE / N_PER_SIDE
    number = np.clip(position // pitch, 0, N_PER_SIDE - 1).astype(np.int32)
    offset = position % pitch - pitch / 2
    labels = number[:, None] * N_PER_SIDE + number[None] + 1
    labels[offset[:, None] ** 2 + offset[None] ** 2 > radius_px**2] = 0
    return labels


def main() -> None:
    rng = np.random.default_rng(0)
    truth, labels = discs(0, 14), discs(3, 13)
    labels = np.r_[0, 1 + rng.permutation(N_PER_SIDE**2)].astype(np.int32)[labels]
    yx = rng.uniform(0, SIDE, (5_000_000, 2))
    row, column = yx.astype(np.int64).T
    for name, job in {
        "segmentation_scores (F1 at three thresholds, PQ, AJI, mean IoU)": lambda: segmentation_scores(truth, labels),
        "matched_instances": lambda: matched_instances(truth, labels, iou=0),
        "cell_calling_score at 3, 5, 7 px": lambda: cell_calling_score(labels, yx, distance_px=(3, 5, 7)),
        "transcript_assignment": lambda: transcript_assignment(truth[row, column], labels[row, column]),
    }.items():
        start, cpu = time.perf_counter(), time.process_time()
        job()
        print(f"{name}: {time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} CPU s")
    print(f"{len(np.unique(truth)) - 1} cells, peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
