"""Which genes matter for which cell types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from sjg.core import InputError, MissingElementError
from sjg.pl._elements import table as get_table
from sjg.pl._figure import finish, new_figure, root_figure

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

_CELL_IN = 0.21
_MAX_DOT_PT2 = 95.0


def gene_importance(
    sdata: SpatialData,
    table_key: str = "sjg_table",
    *,
    cell_types: Sequence[str] | None = None,
    n_genes: int = 4,
    max_types: int | None = 20,
    kind: Literal["dots", "heatmap"] = "dots",
    scale: bool = True,
    cmap: str = "magma_r",
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw the importance of the top genes of each cell type.

    Parameters
    ----------
    sdata
        Object on which :func:`sjg.tl.segment` has run.
    table_key
        Table with ``varm["gene_importance"]``.
    cell_types
        Rows in this order; default: the types with most cells, as many as `max_types`, in the order of the table.
    n_genes
        Genes taken from the top of each type; a gene is drawn once, at the first type that brings it.
    max_types
        At most this many rows where `cell_types` is not given; None for all.
    kind
        ``"dots"``: colour = importance, area = share of the cells of the type with at least one transcript of the gene;
        ``"heatmap"``: colour alone.
    scale
        Scale each type, from its median gene (0, and all below) to its top gene (1): importance is comparable within a type, not between
        types.
    cmap
        Colour map.
    title
        Title of the axes.
    ax
        Axes to draw into; default: a new figure.
    save
        File to write the figure to.
    show
        True opens a window; None shows a new figure in notebooks; False never shows.

    Returns
    -------
    The axes: genes along x, cell types along y.

    Raises
    ------
    MissingElementError
        If the table, its gene importance or a cell type does not exist.
    InputError
        If an argument cannot be used.

    Examples
    --------
    >>> import numpy as np, pandas as pd, sjg
    >>> from anndata import AnnData
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import TableModel
    >>> obs = pd.DataFrame({"cell_type": pd.Categorical(["neuron", "glia"])}, index=["1", "2"])
    >>> table = AnnData(np.eye(2, dtype=np.float32), obs=obs, var=pd.DataFrame(index=["Gad1", "Plp1"]))
    >>> table.varm["gene_importance"] = pd.DataFrame({"glia": [0.1, 2.0], "neuron": [3.0, 0.5]}, index=table.var_names)
    >>> sdata = SpatialData(tables={"sjg_table": TableModel.parse(table)})
    >>> ax = sjg.pl.gene_importance(sdata, n_genes=1, show=False)
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['Plp1', 'Gad1']
    """
    if kind not in ("dots", "heatmap"):
        raise InputError(f"kind={kind!r}: choose 'dots' or 'heatmap'")
    if n_genes < 1:
        raise InputError(f"n_genes={n_genes!r}: give a positive number of genes per cell type")
    table = get_table(sdata, table_key)
    scores = importance_frame(table, table_key)
    types = _choose_types(table, scores, cell_types, max_types, table_key)
    if not types:
        raise InputError(f"tables[{table_key!r}]: no cell type has a gene importance")
    genes = top_genes(scores[types], n_genes)
    values = scores[types]
    if scale:
        low, high = values.median(axis=0), values.max(axis=0)
        values = ((values - low) / (high - low).where(high > low, 1.0)).clip(lower=0.0)
    grid = values.loc[genes].T

    own = ax is None
    if ax is None:
        figure = new_figure((2.6 + _CELL_IN * len(genes), max(1.3 + _CELL_IN * len(types), 2.4)), show=show)
        ax = figure.subplots()
    finite = grid.to_numpy(dtype=float)[np.isfinite(grid.to_numpy(dtype=float))]
    norm = Normalize(0.0, 1.0) if scale else Normalize(float(finite.min()), float(finite.max()))
    if kind == "dots":
        fractions = expressing_fraction(table, genes, types)
        largest_pt2 = _largest_dot(ax, len(genes), len(types))
        rows, columns = np.meshgrid(np.arange(len(types)), np.arange(len(genes)), indexing="ij")
        drawn: ScalarMappable = ax.scatter(
            columns.ravel(),
            rows.ravel(),
            c=grid.to_numpy(dtype=float).ravel(),
            s=(largest_pt2 * fractions.to_numpy()).ravel(),
            cmap=cmap,
            norm=norm,
            edgecolors="#606060",
            linewidths=0.3,
        )
        ax.set_xlim(-0.7, len(genes) - 0.3)
        ax.set_ylim(len(types) - 0.3, -0.7)
        ax.grid(color="#ececec", linewidth=0.5)
        ax.set_axisbelow(True)
    else:
        drawn = ax.imshow(grid.to_numpy(dtype=float), cmap=cmap, norm=norm, aspect="auto", interpolation="none")
    ax.set_xticks(range(len(genes)), genes, rotation=90, fontsize=8, fontstyle="italic")
    ax.set_yticks(range(len(types)), types, fontsize=8)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_color("#b0b0b0")
    _explain(ax, drawn, largest_pt2=largest_pt2 if kind == "dots" else None, scale=scale)
    if title is not None:
        ax.set_title(title, fontsize=10)
    finish(root_figure(ax), save=save, show=show, own=own)
    return ax


def importance_frame(table: AnnData, table_key: str) -> pd.DataFrame:
    """``varm["gene_importance"]`` with text column names."""
    if "gene_importance" not in table.varm:
        raise MissingElementError(
            f"tables[{table_key!r}] has no varm['gene_importance'] (varm: {sorted(table.varm)}); it is written by sjg.tl.segment and sjg.tl.attribute"
        )
    scores = table.varm["gene_importance"]
    if not isinstance(scores, pd.DataFrame):
        raise InputError(
            f"tables[{table_key!r}].varm['gene_importance'] is a {type(scores).__name__}; a DataFrame genes x cell types is expected"
        )
    return scores.rename(columns=str)


def top_genes(scores: pd.DataFrame, n: int) -> list[str]:
    """The `n` top genes of each column, each gene once, in the order of the columns."""
    genes: dict[str, None] = {}
    for name in scores:
        genes.update(dict.fromkeys(scores[name].sort_values(ascending=False, kind="stable").dropna().head(n).index))
    return list(genes)


def expressing_fraction(table: AnnData, genes: list[str], types: list[str]) -> pd.DataFrame:
    """(types x genes) share of the cells of each type that have a transcript of each gene; 0 for a type without cells."""
    positive = table[:, genes].X > 0
    present = pd.DataFrame(positive.toarray() if hasattr(positive, "toarray") else np.asarray(positive), columns=genes)
    shares = present.groupby(table.obs["cell_type"].astype(str).to_numpy()).mean()
    return shares.reindex(types).fillna(0.0)


def _choose_types(table: AnnData, scores: pd.DataFrame, asked: Sequence[str] | None, max_types: int | None, table_key: str) -> list[str]:
    if asked is not None:
        names = [asked] if isinstance(asked, str) else list(asked)
        missing = [name for name in names if name not in scores]
        if missing:
            raise MissingElementError(
                f"cell types {missing} are not in the gene importance of tables[{table_key!r}]; it has {list(scores.columns)}"
            )
        return names
    if "cell_type" not in table.obs:
        raise MissingElementError(
            f"tables[{table_key!r}].obs has no column 'cell_type'; columns: {sorted(table.obs.columns)}. Name the cell_types"
        )
    counts = table.obs["cell_type"].astype(str).value_counts()
    scored = [name for name in scores if scores[name].notna().any()]
    ranked = sorted(scored, key=lambda name: -int(counts.get(name, 0)))
    kept = set(ranked if max_types is None else ranked[:max_types])
    return [name for name in scored if name in kept]


def _largest_dot(ax: Axes, n_genes: int, n_types: int) -> float:
    """Area in pt2 of the largest dot that touches no neighbour; the final layout leaves the axes about this size."""
    figure, place = root_figure(ax), ax.get_position()
    width_in, height_in = place.width * figure.get_figwidth() * 0.85, place.height * figure.get_figheight() * 0.85
    return min(_MAX_DOT_PT2, (72.0 * min(width_in / (n_genes + 0.4), height_in / (n_types + 0.4))) ** 2)


def _explain(ax: Axes, drawn: ScalarMappable, *, largest_pt2: float | None, scale: bool) -> None:
    dots = largest_pt2 is not None
    bar = root_figure(ax).colorbar(drawn, ax=ax, shrink=0.5 if dots else 0.8, pad=0.02, aspect=10, anchor=(0.0, 0.0))
    bar.set_label("importance\n(median to top gene)" if scale else "importance", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if largest_pt2 is not None:
        sizes = [
            Line2D([], [], linestyle="none", marker="o", color="#808080", markersize=np.sqrt(largest_pt2 * share), label=f"{share:.0%}")
            for share in (0.25, 0.5, 1.0)
        ]
        # above the colour bar, in one column with it
        bar.ax.legend(
            handles=sizes,
            title="cells with\nthe gene",
            loc="lower left",
            bbox_to_anchor=(-0.6, 1.1),
            borderaxespad=0.0,
            labelspacing=0.35,
            frameon=False,
            fontsize=7,
            title_fontsize=8,
            alignment="left",
        )
