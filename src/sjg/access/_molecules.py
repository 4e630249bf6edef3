"""Transcripts of a points element, filtered and moved to the grid."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from dask.delayed import delayed
from numpy.typing import NDArray

from sjg._logging import logger
from sjg.access._choose import choose_feature_key
from sjg.access._compute import compute_in_order
from sjg.access._frames import affine_matrix, apply_affine, format_extent, grid_extent, xy_extent
from sjg.core import Grid, GrowingArray, InputError, Molecules, release
from sjg.core import parts as slices

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: names of control probes and of codewords without a gene: Xenium, MERSCOPE and CosMx
CONTROL_PATTERN = r"^(?:blank|neg-?_?control|negprb|negative(?:\d|$|[-_ ])|unassigned|deprecated|antisense|genomic_?control|intergenic_?region|system_?control|false_?code)"
#: rows of a partition that are worked on at once
_READ_ROWS = 1 << 18
#: more non-finite coordinates than this are no accident
_MAX_NONFINITE = 0.05
#: text of a missing value after ``astype(str)``
_NO_NAME = {"", "nan", "none", "<na>"}


@dataclass(frozen=True)
class MoleculeReport:
    """What became of each row of the points; every row is counted once, in the order of the fields.

    Parameters
    ----------
    n_total
        Rows of the element.
    n_nonfinite
        Rows with a NaN or infinite coordinate.
    n_low_quality
        Rows below the quality limit (``qv``).
    n_control
        Control probes and codewords without a gene.
    n_unnamed
        Rows without a gene name.
    n_outside
        Rows outside the grid: they stay unassigned.
    n_kept
        Rows that became molecules.
    row
        (n_kept,) int64 position of each molecule among all rows, partition after partition.
    partition_sizes
        Rows of each partition.
    """

    n_total: int
    n_nonfinite: int
    n_low_quality: int
    n_control: int
    n_unnamed: int
    n_outside: int
    n_kept: int
    row: NDArray[np.int64]
    partition_sizes: tuple[int, ...]

    def counts(self) -> dict[str, int]:
        """The counts as a dict of plain integers."""
        names = ("n_total", "n_nonfinite", "n_low_quality", "n_control", "n_unnamed", "n_outside", "n_kept")
        return {name: int(getattr(self, name)) for name in names}


def read_molecules(
    sdata: SpatialData,
    points_key: str,
    grid: Grid,
    *,
    coordinate_system: str = "global",
    feature_key: str | None = None,
    min_qv: float | None = 20.0,
    control_pattern: str | None = CONTROL_PATTERN,
    min_genes: int = 2,
) -> tuple[Molecules, MoleculeReport]:
    """Read the transcripts of a points element into the grid, one partition in memory at a time.

    Parameters
    ----------
    sdata
        The object.
    points_key
        Key of the points. Only the columns needed are read: ``x``, ``y``, the gene, and ``qv`` and ``is_gene`` where they exist.
    grid
        The working raster.
    coordinate_system
        The coordinate system of `grid`.
    feature_key
        Column of the gene (:func:`choose_feature_key`): categories, strings or bytes.
    min_qv
        Lowest Phred-scaled quality kept where there is a column ``qv``; None keeps all.
    control_pattern
        Regular expression, case ignored, of the gene names to leave out; None keeps all. A boolean column ``is_gene`` is obeyed too.
    min_genes
        Fewer genes than this in the grid are an error.

    Returns
    -------
    molecules
        Rows that passed and lie in the grid; genes sorted by name, only those seen.
    report
        Counts, and the row of each molecule.

    Raises
    ------
    InputError
        No transcripts, more than 5 % of them without finite coordinates, none left by the filters, none on the image (the message
        has both extents), or fewer than `min_genes` genes.

    Warns
    -----
    UserWarning
        Rows with NaN or infinite coordinates are dropped.
    """
    points = sdata.points[points_key]
    feature_key = choose_feature_key(sdata, points_key, feature_key)
    reader = _Reader(
        matrix=np.linalg.inv(grid.matrix) @ affine_matrix(sdata, points_key, coordinate_system),
        shape=grid.shape,
        feature_key=feature_key,
        min_qv=min_qv if "qv" in points.columns else None,
        control=re.compile(control_pattern, re.IGNORECASE) if control_pattern else None,
    )
    if "z" in points.columns:
        logger.info("points[%r] are 3-D: z is ignored", points_key)
    optional = [column for column in ("qv", "is_gene") if column in points.columns and column != feature_key]
    columns = list(dict.fromkeys(["x", "y", feature_key, *optional]))
    read = _Rows()
    needed, read_partition = points[columns], delayed(reader.read)
    # one at a time: the optimiser may join the partitions of a whole element
    partitions = (needed.get_partition(index).to_delayed()[0] for index in range(points.npartitions))
    for part in compute_in_order(read_partition(partition) for partition in partitions):
        read.add(part)
    report = read.report()
    _check(report, read, points_key, grid, coordinate_system)
    molecules = read.molecules()
    gene_names = molecules.gene_names
    if len(gene_names) < min_genes:
        raise InputError(
            f"points[{points_key!r}] has {len(gene_names)} gene ({', '.join(gene_names)}) on the image in column {feature_key!r}; at least "
            f"{min_genes} are needed to tell cells apart: check feature_key, min_qv and control_pattern."
        )
    logger.info("transcripts of points[%r]: %s", points_key, report.counts())
    return molecules, report


@dataclass(frozen=True)
class _Part:
    """A partition: counts, the rows that became molecules, and the genes by their number in `names`."""

    n_rows: int
    n_nonfinite: int
    n_low_quality: int
    n_control: int
    n_unnamed: int
    n_outside: int
    row: NDArray[np.int64]
    yx_px: NDArray[np.float32]
    gene: NDArray[np.int32]
    names: list[str]
    #: of the transcripts that passed the filters, in grid pixels, to explain an empty overlap
    extent: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class _Reader:
    """Turns partitions into grid positions and gene codes, in any order and any process."""

    matrix: NDArray[np.float64]
    shape: tuple[int, int]
    feature_key: str
    min_qv: float | None
    control: re.Pattern[str] | None

    def read(self, frame: pd.DataFrame) -> _Part:
        codes, control, names = self._codes(frame[self.feature_key])
        if "is_gene" in frame and self.feature_key != "is_gene":
            control |= ~frame["is_gene"].to_numpy(dtype=bool, na_value=False)
        # some hundred bytes of intermediate results for each row: a partition may be long
        starts = range(0, max(len(frame), 1), _READ_ROWS)
        return _joined([self._rows(frame, codes, control, names, slice(start, start + _READ_ROWS)) for start in starts])

    def _rows(self, frame: pd.DataFrame, codes: NDArray[np.int32], control: NDArray[np.bool_], names: list[str], rows: slice) -> _Part:
        start, frame, codes, control = rows.start, frame.iloc[rows], codes[rows], control[rows]
        xy = frame[["x", "y"]].to_numpy(dtype=np.float64, na_value=np.nan)
        left = np.isfinite(xy).all(axis=1)
        n_nonfinite = int((~left).sum())
        n_low_quality = n_control = 0
        if self.min_qv is not None:
            passed = frame["qv"].to_numpy(dtype=np.float64, na_value=np.nan) >= self.min_qv
            n_low_quality = int((left & ~passed).sum())
            left &= passed
        n_control = int((left & control).sum())
        left &= ~control
        n_unnamed = int((left & (codes < 0)).sum())
        left &= codes >= 0
        row = np.flatnonzero(left)
        mapped = apply_affine(self.matrix, xy[row])
        height, width = self.shape
        inside = (mapped >= 0).all(axis=1) & (mapped[:, 0] < width) & (mapped[:, 1] < height)
        yx_px = mapped[inside][:, ::-1].astype(np.float32)
        # rounding to single precision may reach the far border
        np.minimum(yx_px, np.nextafter(np.array(self.shape, dtype=np.float32), np.float32(0)), out=yx_px)
        return _Part(
            n_rows=len(frame),
            n_nonfinite=n_nonfinite,
            n_low_quality=n_low_quality,
            n_control=n_control,
            n_unnamed=n_unnamed,
            n_outside=int((~inside).sum()),
            row=row[inside] + start,
            yx_px=yx_px,
            gene=codes[row[inside]],
            names=names,
            extent=xy_extent(mapped) if row.size else None,
        )

    def _codes(self, column: pd.Series) -> tuple[NDArray[np.int32], NDArray[np.bool_], list[str]]:
        """(n,) gene codes, -1 where there is no name, (n,) whether the name is one of a control, and the names by code."""
        if isinstance(column.dtype, pd.CategoricalDtype):
            local, values = column.cat.codes.to_numpy(), column.cat.categories.to_numpy()
        else:
            local, values = pd.factorize(column.to_numpy(dtype=object, na_value=None))
        found = [_name(value) for value in values]
        is_control = np.array([bool(self.control and self.control.search(name)) for name in found] + [False])
        named = [not control and name.lower() not in _NO_NAME for name, control in zip(found, is_control[:-1], strict=True)]
        names = list(dict.fromkeys(name for name, good in zip(found, named, strict=True) if good))
        code_of = {name: code for code, name in enumerate(names)}
        codes = np.array([code_of[name] if good else -1 for name, good in zip(found, named, strict=True)] + [-1], dtype=np.int32)
        # -1, the code of a missing value, is the last entry of both
        return codes[local], is_control[local], names


def _joined(parts: list[_Part]) -> _Part:
    """Consecutive parts of one partition as one."""
    if len(parts) == 1:
        return parts[0]
    extents = np.array([part.extent for part in parts if part.extent is not None])
    counts = {f.name: sum(getattr(part, f.name) for part in parts) for f in fields(_Part) if f.name.startswith("n_")}
    return _Part(
        **counts,
        row=np.concatenate([part.row for part in parts]),
        yx_px=np.concatenate([part.yx_px for part in parts]),
        gene=np.concatenate([part.gene for part in parts]),
        names=parts[0].names,
        extent=(*extents[:, :2].min(axis=0), *extents[:, 2:].max(axis=0)) if len(extents) else None,
    )


class _Rows:
    """The partitions read so far, joined; on disk where they are many."""

    def __init__(self) -> None:
        self._row = GrowingArray(np.int64)
        self._yx_px = GrowingArray(np.float32, (2,))
        self._gene = GrowingArray(np.int32)
        self._code_of: dict[str, int] = {}
        self._n_nonfinite = self._n_low_quality = self._n_control = self._n_unnamed = self._n_outside = 0
        self._sizes: list[int] = []
        self.extents: list[tuple[float, float, float, float]] = []

    def add(self, part: _Part) -> None:
        """The next partition."""
        codes = np.array([self._code_of.setdefault(name, len(self._code_of)) for name in part.names], dtype=np.int32)
        self._row.append(part.row + sum(self._sizes))
        self._yx_px.append(part.yx_px)
        self._gene.append(codes[part.gene])
        self._n_nonfinite += part.n_nonfinite
        self._n_low_quality += part.n_low_quality
        self._n_control += part.n_control
        self._n_unnamed += part.n_unnamed
        self._n_outside += part.n_outside
        self._sizes.append(part.n_rows)
        if part.extent is not None:
            self.extents.append(part.extent)

    def report(self) -> MoleculeReport:
        """What became of the rows."""
        row = self._row.finish()
        return MoleculeReport(
            n_total=sum(self._sizes),
            n_nonfinite=self._n_nonfinite,
            n_low_quality=self._n_low_quality,
            n_control=self._n_control,
            n_unnamed=self._n_unnamed,
            n_outside=self._n_outside,
            n_kept=len(row),
            row=row,
            partition_sizes=tuple(self._sizes),
        )

    def molecules(self) -> Molecules:
        """The molecules, with the genes that occur, by name."""
        names, gene = list(self._code_of), self._gene.finish()
        seen = np.zeros(len(names), dtype=np.int64)
        for rows in slices(len(gene)):
            seen += np.bincount(gene[rows], minlength=len(names))
        order = sorted(np.flatnonzero(seen).tolist(), key=lambda code: names[code])
        rank = np.full(len(names), -1, dtype=np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        for rows in slices(len(gene)):
            gene[rows] = rank[gene[rows]]
        yx_px = self._yx_px.finish()
        release(gene, yx_px)
        return Molecules(yx_px=yx_px, gene=gene, gene_names=tuple(names[code] for code in order))


def _name(value: Any) -> str:
    return value.decode("utf-8", errors="replace").strip() if isinstance(value, bytes) else str(value).strip()


def _check(report: MoleculeReport, read: _Rows, points_key: str, grid: Grid, coordinate_system: str) -> None:
    name = f"points[{points_key!r}]"
    if report.n_total == 0:
        raise InputError(f"{name} has no transcripts; choose other points with points_key=.")
    if report.n_nonfinite > _MAX_NONFINITE * report.n_total:
        raise InputError(
            f"{name} has {report.n_nonfinite} of {report.n_total} transcripts ({report.n_nonfinite / report.n_total:.1%}) with NaN or infinite "
            f"coordinates, more than {_MAX_NONFINITE:.0%}: mend the x and y columns, or drop these rows."
        )
    if report.n_nonfinite:
        warnings.warn(
            f"{name}: {report.n_nonfinite} of {report.n_total} transcripts dropped: NaN or infinite coordinates.", UserWarning, stacklevel=4
        )
    if not read.extents:
        raise InputError(f"No transcript of {name} passes the filters ({report.counts()}); loosen min_qv= or control_pattern=.")
    if report.n_kept == 0:
        low, high = np.min([e[:2] for e in read.extents], axis=0), np.max([e[2:] for e in read.extents], axis=0)
        corners = np.array([[low[0], low[1]], [high[0], low[1]], [low[0], high[1]], [high[0], high[1]]])
        raise InputError(
            f"Image and transcripts do not overlap in coordinate system {coordinate_system!r}: the image covers "
            f"{format_extent(grid_extent(grid))}; {name} covers {format_extent(xy_extent(apply_affine(grid.matrix, corners)))}. Check their "
            "transformations (units, pixel size, origin) with spatialdata.transformations.get_transformation."
        )
