"""A second simulator, sharing no code with ``sjg.datasets.simulated_tissue``, so that no method is tuned to a single one.

    python benchmarks/quality/other_tissue.py --seeds 0 1 2

prints how hard its variants are for nuclei and their expansion. Cells grow from jittered seeds through a random medium (first-passage
percolation, with head starts), the pixels reached last become gaps; nuclei are perfect, off centre, and their size follows that of
the cell; transcripts are uniform in the cell. Class means come from CA1 scRNA-seq, which ``SJG_DATA_DIR`` (default: ../shared/data) holds.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
from spatialdata.transformations import Identity, Scale

from sjg.metrics import f1_at_iou, instance_iou

#: real data
DATA_DIR = Path(os.environ.get("SJG_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))


@dataclass(frozen=True)
class OtherTissue:
    """Settings of the second simulator; the defaults are those of the project's method page."""

    shape: tuple[int, int] = (512, 512)
    pixel_size_um: float = 0.5
    n_cells: int = 500
    coverage: float = 0.84
    nucleus_fraction: float = 0.32
    n_types: int = 8
    n_genes: int = 92
    transcripts_per_cell: float = 120.0
    noise_fraction: float = 0.08
    diffusion_um: float = 0.5
    size_variance: float = 0.1
    expression_variance: float = 0.2
    #: spread of the efficiencies of genes in the reference, and of what single types show there beyond that (of logarithms)
    reference_spread: float = 0.0
    reference_deviation: float = 0.0


#: 120 transcripts per cell, the four changes of it that the project's method page reports, tissue of a single type, and a reference of
#: another assay
VARIANTS = {
    "120": OtherTissue(),
    "40": OtherTissue(transcripts_per_cell=40),
    "large cells": OtherTissue(n_cells=280),
    "12": OtherTissue(transcripts_per_cell=12),
    "diffuse, noisy": OtherTissue(transcripts_per_cell=200, diffusion_um=2.0, noise_fraction=0.2),
    "one type": OtherTissue(n_types=1),
    "other reference": OtherTissue(reference_spread=0.6, reference_deviation=0.6),
}


def other_tissue(settings: OtherTissue | None = None, *, seed: int = 0) -> SpatialData:
    """A tissue with the elements of ``sjg.datasets.simulated_tissue``, by other rules."""
    settings = settings or OtherTissue()
    # one stream per step: a variant changes its own step and none of the others
    rng = [np.random.default_rng([seed, step]) for step in range(8)]
    cells = _grow_cells(rng[0], settings)
    n = int(cells.max())
    nuclei = _place_nuclei(rng[1], cells, settings)
    names, genes, means = _class_means(rng[2], settings)
    cell_type = _place_types(rng[3], cells, len(names))
    yx, gene, true_cell = _draw_molecules(rng[4], cells, cell_type, means, settings)
    dapi = _draw_dapi(rng[5], nuclei)

    def scale() -> dict[str, Scale]:
        return {"global": Scale([settings.pixel_size_um] * 2, axes=("x", "y"))}

    px = settings.pixel_size_um
    points = pd.DataFrame(
        {"x": yx[:, 1] * px, "y": yx[:, 0] * px, "gene": pd.Categorical.from_codes(gene, genes), "true_cell": true_cell.astype(np.int32)}
    )
    counts = sparse.csr_matrix((np.ones(len(gene), np.int64), (true_cell, gene)), shape=(n + 1, len(genes)))[1:]
    obs = pd.DataFrame(
        {
            "cell_id": np.arange(1, n + 1),
            "region": pd.Categorical(["cells"] * n),
            "cell_type": pd.Categorical.from_codes(cell_type, names),
        },
        index=[str(i) for i in range(1, n + 1)],
    )
    truth = TableModel.parse(AnnData(counts, obs, pd.DataFrame(index=genes)), region="cells", region_key="region", instance_key="cell_id")
    seen = np.exp(
        settings.reference_spread * rng[6].standard_normal(len(genes)) + settings.reference_deviation * rng[7].standard_normal(means.shape)
    )
    reference = AnnData(seen * means * settings.transcripts_per_cell, pd.DataFrame(index=names), pd.DataFrame(index=genes))
    return SpatialData(
        images={"dapi": Image2DModel.parse(dapi[None], dims=("c", "y", "x"), c_coords=["dapi"], transformations=scale())},
        labels={key: Labels2DModel.parse(a, dims=("y", "x"), transformations=scale()) for key, a in (("nuclei", nuclei), ("cells", cells))},
        points={"transcripts": PointsModel.parse(points, feature_key="gene", transformations={"global": Identity()})},
        tables={"truth": truth, "reference": TableModel.parse(reference)},
    )


def _grow_cells(rng: np.random.Generator, settings: OtherTissue) -> NDArray[np.int32]:
    """Additively weighted Voronoi cells of a random medium, minus the pixels that are reached last."""
    height, width = settings.shape
    spacing = np.sqrt(height * width / settings.n_cells)
    seeds = _scatter(rng, settings.shape, settings.n_cells, 0.62 * spacing)
    medium = np.exp(0.45 * _field(rng, settings.shape, 0.16 * spacing) + 0.25 * _field(rng, settings.shape, 0.45 * spacing))
    pixel = np.arange(height * width).reshape(height, width)
    tails, heads, lengths = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = (slice(0, height - dy), slice(max(-dx, 0), width - max(dx, 0)))
        b = (slice(dy, height), slice(max(dx, 0), width - max(-dx, 0)))
        tails.append(pixel[a].ravel())
        heads.append(pixel[b].ravel())
        lengths.append((np.hypot(dy, dx) * (medium[a] + medium[b]) / 2).ravel())
    start = height * width + np.arange(len(seeds))
    tails.append(start)
    heads.append(pixel[seeds[:, 0], seeds[:, 1]])
    lengths.append(0.2 * spacing * rng.random(len(seeds)) * 2 + 1e-3)
    graph = sparse.csr_matrix(
        (np.concatenate(lengths), (np.concatenate(tails), np.concatenate(heads))), shape=(height * width + len(seeds),) * 2
    )
    arrival, _, source = csgraph.dijkstra(graph, directed=False, indices=start, return_predecessors=True, min_only=True)
    owner = (source[: height * width] - height * width + 1).reshape(height, width)
    lateness = arrival[: height * width].reshape(height, width) + 0.14 * spacing * _field(rng, settings.shape, 0.2 * spacing)
    cells = np.where(lateness <= np.quantile(lateness, settings.coverage), owner, 0)
    cells = _in_one_piece(ndimage.median_filter(cells, 3) * (cells > 0))
    return np.unique(cells, return_inverse=True)[1].reshape(cells.shape).astype(np.int32)


def _scatter(rng: np.random.Generator, shape: tuple[int, int], n: int, distance_px: float) -> NDArray[np.int64]:
    """`n` pixels at least about `distance_px` apart: of several throws, the first that is clear, else the one that is clearest."""
    kept = np.empty((0, 2))
    for _ in range(n):
        throws = rng.random((30, 2)) * shape
        if len(kept):
            gap = np.hypot(*(throws[:, None] - kept[None]).transpose(2, 0, 1)).min(1)
            throws = throws[[int(np.argmax(gap >= distance_px)) if (gap >= distance_px).any() else int(gap.argmax())]]
        kept = np.concatenate([kept, throws[:1]])
    return kept.astype(np.int64)


def _field(rng: np.random.Generator, shape: tuple[int, int], sigma_px: float) -> NDArray[np.float64]:
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma_px, mode="wrap")
    return field / field.std()


def _in_one_piece(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Only the largest piece of each label."""
    kept = np.zeros_like(labels)
    for i, window in enumerate(ndimage.find_objects(labels), 1):
        if window is not None:
            piece, _ = ndimage.label(labels[window] == i)
            size = np.bincount(piece.ravel())
            size[0] = 0
            kept[window][piece == size.argmax()] = i
    return kept


def _place_nuclei(rng: np.random.Generator, cells: NDArray[np.int32], settings: OtherTissue) -> NDArray[np.int32]:
    """Ellipses clear of the border, of a nearly constant share of their cell."""
    nuclei = np.zeros_like(cells)
    for i, window in enumerate(ndimage.find_objects(cells), 1):
        mask = np.pad(cells[window] == i, 1)
        depth = ndimage.distance_transform_edt(mask)[1:-1, 1:-1]
        inner = np.argwhere(depth > min(1.5, 0.6 * depth.max()))
        weight = depth[inner[:, 0], inner[:, 1]] ** 3
        centre = inner[rng.choice(len(inner), p=weight / weight.sum())]
        angle, stretch = np.pi * rng.random(), np.exp(0.15 * rng.standard_normal())
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        distance = np.hypot(*((inner - centre) @ turn * [stretch, 1 / stretch]).T)
        area = settings.nucleus_fraction * (cells[window] == i).sum() * np.exp(0.1 * rng.standard_normal())
        chosen = inner[np.argsort(distance, kind="stable")[: max(int(area), 4)]]
        nuclei[window][chosen[:, 0], chosen[:, 1]] = i
    return _in_one_piece(nuclei).astype(np.int32)


def _class_means(rng: np.random.Generator, settings: OtherTissue) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """(types, genes) shares of each type's transcripts."""
    path = DATA_DIR / "mouse_ca1_iss" / "reference_class_means.csv"
    if path.is_file():
        table = pd.read_csv(path, index_col=0)
    else:
        print(
            "second simulator: SJG_DATA_DIR holds no CA1 class means; tissue of made-up ones is another and must not go into the tables",
            file=sys.stderr,
        )
        n, g = 71, 92
        table = pd.DataFrame(
            rng.gamma(0.25, 1.0, (g, n)) * rng.lognormal(0, 1, (g, 1)), [f"g{k}" for k in range(g)], [f"t{k}" for k in range(n)]
        )
    types = np.sort(rng.choice(table.shape[1], settings.n_types, replace=False))
    genes = np.sort(rng.choice(table.shape[0], min(settings.n_genes, table.shape[0]), replace=False))
    means = table.to_numpy(float).T[np.ix_(types, genes)] + 1e-3
    return list(table.columns[types]), list(table.index[genes]), means / means.sum(1, keepdims=True)


def _place_types(rng: np.random.Generator, cells: NDArray[np.int32], n_types: int) -> NDArray[np.int64]:
    """Types in overlapping patches of about 20 um."""
    n = int(cells.max())
    centre = np.asarray(ndimage.center_of_mass(cells > 0, cells, np.arange(1, n + 1))).astype(int)
    score = np.stack([_field(rng, cells.shape, 40.0)[centre[:, 0], centre[:, 1]] for _ in range(n_types)], 1)
    return (score + rng.standard_normal(score.shape)).argmax(1)


def _draw_molecules(
    rng: np.random.Generator, cells: NDArray[np.int32], cell_type: NDArray[np.int64], means: NDArray[np.float64], settings: OtherTissue
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Positions in pixels, genes and true cells, 0 = noise."""
    n = int(cells.max())
    area = np.bincount(cells.ravel())[1:]
    size = area / area.mean() * rng.gamma(1 / settings.size_variance, settings.size_variance, n)
    spread = rng.gamma(1 / settings.expression_variance, settings.expression_variance, (n, means.shape[1]))
    counts = rng.poisson(settings.transcripts_per_cell * size[:, None] * means[cell_type] * spread)
    cell, gene = (np.repeat(index, counts.ravel()) for index in (a.ravel() for a in np.indices(counts.shape)))
    order = np.argsort(cells.ravel(), kind="stable")
    first = np.searchsorted(cells.ravel()[order], np.arange(1, n + 1))
    pick = order[first[cell] + (rng.random(len(cell)) * area[cell]).astype(np.int64)]
    yx = np.stack(np.divmod(pick, cells.shape[1]), 1) + rng.random((len(cell), 2))
    yx += settings.diffusion_um / settings.pixel_size_um * rng.standard_normal(yx.shape)
    n_noise = round(len(cell) * settings.noise_fraction / (1 - settings.noise_fraction))
    yx = np.concatenate([yx, rng.random((n_noise, 2)) * cells.shape])
    # half of the noise has the composition of the tissue, half knows no gene
    of_tissue = rng.choice(gene, n_noise)
    gene = np.concatenate([gene, np.where(rng.random(n_noise) < 0.5, of_tissue, rng.integers(means.shape[1], size=n_noise))])
    true_cell = np.concatenate([cell + 1, np.zeros(n_noise, np.int64)])
    inside = ((yx >= 0) & (yx < cells.shape)).all(1)
    return yx[inside], gene[inside], true_cell[inside]


def _draw_dapi(rng: np.random.Generator, nuclei: NDArray[np.int32]) -> NDArray[np.uint16]:
    bright = rng.lognormal(0, 0.3, int(nuclei.max()) + 1)
    bright[0] = 0
    stain = bright[nuclei] * np.clip(1 + 0.2 * _field(rng, nuclei.shape, 1.5), 0.2, None)
    light = ndimage.gaussian_filter(stain, 1.0) + 0.2 * ndimage.gaussian_filter(stain, 10.0) + 0.05
    return np.clip(80 + 4 * rng.poisson(300 * light) + rng.normal(0, 5, nuclei.shape), 0, 65535).astype(np.uint16)


def _hardness(settings: OtherTissue, seed: int) -> dict[str, tuple[float, float, float]]:
    """Transcripts right, mean IoU and F1 at IoU 0.75 of nuclei, of their best expansion and of the true masks."""
    from skimage.segmentation import expand_labels

    sdata = other_tissue(settings, seed=seed)
    truth, nuclei = np.asarray(sdata["cells"]), np.asarray(sdata["nuclei"])
    points = sdata["transcripts"].compute()
    row, column = (np.floor(points[a].to_numpy() / settings.pixel_size_um).astype(int) for a in ("y", "x"))

    def of(labels: NDArray[np.int32]) -> tuple[float, float, float]:
        right = float((labels[row, column] == points["true_cell"]).mean())
        return right, instance_iou(truth, labels, matching="id"), f1_at_iou(truth, labels, iou=0.75)

    expanded = np.array([of(expand_labels(nuclei, distance)) for distance in range(4, 31, 2)]).max(0)
    return {"nuclei": of(nuclei), "expansion": tuple(expanded), "true masks": of(truth)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--size-px", type=int, default=512)
    arguments = parser.parse_args()
    for name in arguments.variants:
        settings = VARIANTS[name]
        n_cells = round(settings.n_cells * arguments.size_px**2 / 512**2)
        settings = replace(settings, shape=(arguments.size_px,) * 2, n_cells=n_cells)
        rows = [_hardness(settings, seed) for seed in arguments.seeds]
        for method in rows[0]:
            print(f"{name:16s} {method:12s}", *(f"{value:.3f}" for value in np.mean([row[method] for row in rows], 0)))


if __name__ == "__main__":
    main()
