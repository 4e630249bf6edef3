"""Which genes to keep in a smaller panel, and what it would cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from sjg import access
from sjg._keys import cell_id_column, labels_key
from sjg._keys import table_key as table_key_of
from sjg._logging import logger
from sjg.core import InputError, MissingElementError, generator
from sjg.tl._evaluate import evaluate
from sjg.tl._segment import segment
from sjg.tl._stored_run import stored_request, stored_run

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

PanelOrder = Literal["importance", "abundance", "random"]
_ORDERS: tuple[PanelOrder, ...] = ("importance", "abundance", "random")
#: prefix of the runs of a curve, in objects that nobody else sees
_KEY = "panel"


def select_panel(
    sdata: SpatialData,
    n_genes: int,
    *,
    table_key: str = "sjg_table",
    cell_types: Sequence[str] | None = None,
    keep: Sequence[str] = (),
) -> pd.DataFrame:
    """Choose the genes to keep in a smaller panel, by gene importance.

    The cell types take turns, the most abundant first, and each names its most important gene that is not in the panel yet. Importance is
    comparable within a type and not between types, so no type is outvoted.

    Parameters
    ----------
    sdata
        Object on which :func:`sjg.tl.segment` has run.
    n_genes
        Size of the panel.
    table_key
        Table with ``varm["gene_importance"]``.
    cell_types
        Types that the panel is for, in the order in which they take turns; None = those that have cells.
    keep
        Genes that are in the panel anyway; they count.

    Returns
    -------
    DataFrame with a row per gene in the order of choice (its first rows are the smaller panels): ``gene``, ``cell_type`` that named it (empty for `keep`),
    ``importance`` and ``rank`` of the gene in that type.

    Raises
    ------
    MissingElementError
        There is no such table, type or gene.
    InputError
        `n_genes` is not between the number of kept genes and that of all.

    Examples
    --------
    >>> import numpy as np, pandas as pd, sjg
    >>> from anndata import AnnData
    >>> from spatialdata import SpatialData
    >>> obs = pd.DataFrame({"cell_type": pd.Categorical(["neuron", "glia", "glia"])}, index=["1", "2", "3"])
    >>> table = AnnData(np.ones((3, 3), dtype=np.float32), obs=obs, var=pd.DataFrame(index=["Gad1", "Plp1", "Mbp"]))
    >>> table.varm["gene_importance"] = pd.DataFrame({"glia": [0.1, 2.0, 1.9], "neuron": [3.0, 0.2, 0.5]}, index=table.var_names)
    >>> sjg.tl.select_panel(SpatialData(tables={"sjg_table": table}), 2)
       gene cell_type  importance  rank
    0  Plp1      glia         2.0     1
    1  Gad1    neuron         3.0     1
    """
    table, scores = _importance(sdata, table_key)
    genes = list(scores.index)
    kept = list(dict.fromkeys(map(str, keep)))
    missing = [name for name in kept if name not in scores.index]
    if missing:
        raise MissingElementError(f"tables[{table_key!r}] has no gene {missing} to keep; it has {', '.join(genes[:10])}.")
    if isinstance(n_genes, bool) or not isinstance(n_genes, int) or not max(len(kept), 1) <= n_genes <= len(genes):
        raise InputError(f"n_genes={n_genes!r}; give a whole number between {max(len(kept), 1)} and {len(genes)}, the genes of the run.")
    turns = _types_with_cells(table, list(scores)) if cell_types is None else list(cell_types)
    missing = [name for name in turns if name not in scores]
    if missing or not turns:
        raise MissingElementError(f"tables[{table_key!r}] has no gene importance for the cell types {missing}; it has {', '.join(scores)}.")
    ranked = {name: scores[name].sort_values(ascending=False, kind="stable", na_position="last") for name in turns}
    rows: list[dict[str, Any]] = [{"gene": name, "cell_type": "", "importance": np.nan, "rank": 0} for name in kept]
    chosen = set(kept)
    for name in cycle(turns):
        if len(rows) == n_genes:
            break
        rank, gene = next((rank, gene) for rank, gene in enumerate(ranked[name].index, start=1) if gene not in chosen)
        chosen.add(gene)
        rows.append({"gene": gene, "cell_type": name, "importance": float(ranked[name][gene]), "rank": rank})
    return pd.DataFrame(rows)


def panel_curve(
    sdata: SpatialData,
    n_genes: Sequence[int],
    *,
    table_key: str = "sjg_table",
    orders: Sequence[PanelOrder] = ("importance", "random"),
    truth_key: str | None = None,
    reference: AnnData | pd.DataFrame | str | None = None,
    cell_type_key: str | None = None,
    preset: str | None = None,
    max_epochs: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    n_repeats: int = 1,
    device: str = "auto",
    random_state: int = 0,
) -> pd.DataFrame:
    """Segment again with smaller and smaller panels and measure what is lost.

    Parameters
    ----------
    sdata
        Object on which :func:`sjg.tl.segment` has run on all genes; it is not changed.
    n_genes
        Sizes of the panels.
    table_key
        Table of that run.
    orders
        How the genes of a panel are chosen: ``"importance"`` (:func:`select_panel`), ``"abundance"`` (most transcripts first) or ``"random"``.
    truth_key
        Labels of the true cells. None measures the agreement with the run on all genes instead.
    reference, cell_type_key
        As in the run on all genes.
    preset
        None = that of the run on all genes.
    max_epochs, parameters
        As in :func:`sjg.tl.segment`.
    n_repeats
        Repetitions with other seeds; random panels are drawn anew.
    device
        As in :func:`sjg.tl.segment`.
    random_state
        Seed of the first repetition.

    Returns
    -------
    DataFrame with a row per run and metric of :func:`sjg.tl.evaluate`: ``order``, ``n_genes``, ``repeat``, ``n_transcripts`` (of the panel), ``metric``, ``value``.
    Transcripts are scored on those of the panel alone.

    Raises
    ------
    MissingElementError
        There is no such table or truth.
    InputError
        A size or an order does not exist, or the table is not that of a run.

    See Also
    --------
    sjg.pl.panel_curve : draws it.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64), n_genes=20)
    >>> quick = {"max_epochs": 1, "parameters": {"steps_per_round": 2}}
    >>> sjg.tl.segment(sdata, reference="reference", preset="fast", progress=False, **quick)
    >>> curve = sjg.tl.panel_curve(sdata, [10], orders=["importance"], truth_key="cells", reference="reference", **quick)
    >>> curve.loc[curve["metric"] == "mean_iou", ["order", "n_genes"]].values.tolist()
    [['importance', 10]]
    """
    unknown = [order for order in orders if order not in _ORDERS]
    if unknown or not orders:
        raise InputError(f"orders={list(orders)!r}; choose from {', '.join(_ORDERS)}.")
    if isinstance(n_repeats, bool) or not isinstance(n_repeats, int) or n_repeats < 1:
        raise InputError(f"n_repeats={n_repeats!r}; give a whole number >= 1.")
    _, details = stored_run(sdata, table_key)
    run, key_added = stored_request(details), str(details["key_added"])
    truth = labels_key(key_added) if truth_key is None else access.choose_labels(sdata, truth_key, argument="truth_key")
    true_cell = cell_id_column(key_added) if truth_key is None else "true_cell"
    sizes = sorted(set(n_genes), reverse=True)
    if not sizes:
        raise InputError("n_genes is empty; give the sizes of the panels.")
    for n in (sizes[0], sizes[-1]):  # their errors, before the first run
        select_panel(sdata, n, table_key=table_key)
    frames = []
    for order, repeat, panel in _panels(sdata, sizes[0], table_key, orders, n_repeats, random_state):
        for n in sizes:
            part = access.with_genes(sdata, str(run.points_key), panel[:n], feature_key=run.feature_key)
            segment(
                part,
                run.image_key,
                run.points_key,
                nuclei_key=run.nuclei_key,
                cell_type_key=cell_type_key,
                reference=reference,
                preset=str(details["preset"]) if preset is None else preset,
                resolution_um=run.resolution_um,
                pixel_size_um=run.pixel_size_um,
                coordinate_system=run.coordinate_system,
                feature_key=run.feature_key,
                channel=run.channel,
                min_qv=run.min_qv,
                control_pattern=run.control_pattern,
                key_added=_KEY,
                device=device,
                random_state=random_state + repeat,
                max_epochs=max_epochs,
                parameters=parameters,
                progress=False,
            )
            scores = evaluate(
                part,
                labels_key(_KEY),
                truth_key=truth,
                points_key=run.points_key,
                coordinate_system=run.coordinate_system,
                true_cell_key=true_cell,
                feature_key=run.feature_key,
                min_qv=run.min_qv,
                control_pattern=run.control_pattern,
            )
            n_transcripts = int(part.tables[table_key_of(_KEY)].uns["sjg"]["transcripts"]["n_kept"])
            frames.append(scores.assign(order=order, n_genes=n, repeat=repeat, n_transcripts=n_transcripts))
            logger.info("panel of %d genes by %s done", n, order)
    return pd.concat(frames, ignore_index=True)[["order", "n_genes", "repeat", "n_transcripts", "metric", "value"]]


def _panels(
    sdata: SpatialData, n: int, table_key: str, orders: Sequence[PanelOrder], n_repeats: int, random_state: int
) -> Iterator[tuple[PanelOrder, int, list[str]]]:
    """Order, repetition and the genes of its largest panel; smaller panels are its first genes."""
    table = sdata.tables[table_key]
    for order in orders:
        for repeat in range(n_repeats):
            if order == "importance":
                yield order, repeat, select_panel(sdata, n, table_key=table_key)["gene"].tolist()
                continue
            names = np.asarray(table.var_names, dtype=str)
            if order == "abundance":
                position = np.argsort(-np.asarray(table.X.sum(axis=0)).ravel(), kind="stable")
            else:
                position = generator(random_state + repeat, 7).permutation(len(names))
            yield order, repeat, names[position[:n]].tolist()


def _types_with_cells(table: AnnData, names: list[str]) -> list[str]:
    """Types by the number of their cells, most first; all where no cell has a type."""
    counts = table.obs["cell_type"].astype(str).value_counts() if "cell_type" in table.obs else pd.Series(dtype=int)
    present = sorted((name for name in names if counts.get(name, 0) > 0), key=lambda name: -int(counts[name]))
    return present or names


def _importance(sdata: SpatialData, table_key: str) -> tuple[AnnData, pd.DataFrame]:
    """Table of a run and its genes x types importance."""
    if table_key not in sdata.tables:
        raise MissingElementError(f"tables[{table_key!r}] does not exist; tables: {sorted(sdata.tables)}. Run sjg.tl.segment first.")
    table = sdata.tables[table_key]
    if not isinstance(table.varm.get("gene_importance"), pd.DataFrame):
        raise MissingElementError(
            f"tables[{table_key!r}] has no varm['gene_importance']; it is written by sjg.tl.segment and sjg.tl.attribute."
        )
    scores = table.varm["gene_importance"].rename(columns=str)
    return table, scores.set_axis(table.var_names.astype(str), axis=0)
