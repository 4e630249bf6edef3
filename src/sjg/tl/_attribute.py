"""Gene importance again, by any method, and maps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sjg import access
from sjg.core import ExistingElementError, InputError, MissingElementError, generator
from sjg.tl._attribute_published import published_attribution
from sjg.tl._inputs import RunArrays, read_arrays
from sjg.tl._stored_run import stored_request, stored_run

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from spatialdata import SpatialData


def attribute(
    sdata: SpatialData,
    *,
    table_key: str = "sjg_table",
    cell_types: Sequence[str] | str | None = None,
    genes: Sequence[str] | str | None = None,
    method: str = "closed_form",
    key_added: str | None = None,
    n_probes: int = 16,
    n_patches: int | None = None,
    n_steps: int = 20,
    device: str = "auto",
    random_state: int = 0,
    overwrite: bool = False,
) -> None:
    """Score genes for the cell types with the network of an earlier :func:`sjg.tl.segment`.

    Parameters
    ----------
    sdata
        Object on which :func:`sjg.tl.segment` has run; image, transcripts and nuclei of that run must still be there.
    table_key
        Table of the run.
    cell_types
        Types to score; None = all.
    genes
        Genes to score; None = all.
    method
        ``"closed_form"``: the optimum of the published objective in closed form; ``"optimize"``: the published objective by gradient
        descent; ``"gradient"``: log magnitude of the plain gradient.
    key_added
        None updates ``varm["gene_importance"]`` of the table. A name writes maps instead: ``images[key_added]``, one channel for each gene,
        in the frame of the cells; `cell_types` must then name one type and `genes` the genes.
    n_probes
        Random probes of ``"closed_form"``.
    n_patches
        Patches per type; None takes the run's.
    n_steps
        Steps of ``"optimize"``.
    device
        As in :func:`sjg.tl.segment`.
    random_state
        Seed.
    overwrite
        Replace an image of the same name.

    Returns
    -------
    None, and writes

    ``tables[table_key].varm["gene_importance"]``
        Genes x types, where `key_added` is None: the scored genes and types get new values.
    ``images[key_added]``
        (gene, y, x) float32 -log sigma of each gene at each working pixel, where `key_added` is given.

    Raises
    ------
    MissingElementError
        There is no such table, type or gene.
    InputError
        The table has no network, or an argument is out of range.
    ExistingElementError
        ``images[key_added]`` exists.

    References
    ----------
    :cite:p:`ma2026segjointgene` for computational information discarding.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64))
    >>> sjg.tl.segment(sdata, reference="reference", preset="fast", max_epochs=1, parameters={"steps_per_round": 5}, progress=False)
    >>> gene, kind = sdata["sjg_table"].var_names[0], sdata["sjg_table"].varm["gene_importance"].columns[0]
    >>> sjg.tl.attribute(sdata, cell_types=kind, genes=[gene], key_added="importance_map")
    >>> sdata["importance_map"].dims
    ('c', 'y', 'x')
    """
    from sjg.training import ATTRIBUTION_METHODS, PUBLISHED_KIND, make_fabric

    if method not in ATTRIBUTION_METHODS:
        raise InputError(f"method={method!r}; choose one of {', '.join(ATTRIBUTION_METHODS)}.")
    for name, value in (("n_probes", n_probes), ("n_steps", n_steps), ("n_patches", 1 if n_patches is None else n_patches)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r}; give a whole number >= 1.")
    table, details = stored_run(sdata, table_key)
    names = [str(t) for t in table.varm["gene_importance"].columns]
    chosen_types = _positions(cell_types, names, "cell type", f"varm['gene_importance'] of tables[{table_key!r}]")
    chosen_genes = _positions(genes, [str(g) for g in table.var_names], "gene", f"tables[{table_key!r}]")
    if key_added is not None:
        if len(chosen_types) != 1 or genes is None:
            raise InputError("Maps are of one cell type and chosen genes: give cell_types='name' and genes=[...], or drop key_added.")
        if key_added in sdata.images and not overwrite:
            raise ExistingElementError(f"images[{key_added!r}] exists; choose another key_added, or overwrite=True.")
    fabric = make_fabric(device)
    request = stored_request(details)
    inputs = read_arrays(sdata, request, shape=tuple(int(s) for s in np.asarray(details["grid"]["shape"])))
    if inputs.molecules.gene_names != tuple(map(str, table.var_names)):
        what = (
            f"channels of images[{inputs.image_key!r}]" if inputs.points_key is None else f"transcripts of points[{request.points_key!r}]"
        )
        raise InputError(f"The {what} are not those of the run; run sjg.tl.segment again.")
    attribution = published_attribution if str(details["network"].get("kind", "")) == PUBLISHED_KIND else _attribution
    values = attribution(
        details["network"],
        inputs,
        fabric=fabric,
        method=method,
        genes=chosen_genes,
        types=chosen_types,
        n_types=len(names),
        as_maps=key_added is not None,
        n_probes=n_probes,
        n_patches=n_patches,
        n_steps=n_steps,
        rng=generator(random_state, 6),
    )
    if key_added is None:
        frame = table.varm["gene_importance"].copy()
        frame.iloc[chosen_genes, chosen_types] = values
        table.varm["gene_importance"] = frame
        return
    access.write_maps(
        sdata,
        values,
        [str(table.var_names[g]) for g in chosen_genes],
        inputs.grid,
        key_added=key_added,
        image_key=inputs.image_key,
        coordinate_system=inputs.coordinate_system,
    )


def _attribution(
    stored: Mapping[str, Any],
    inputs: RunArrays,
    *,
    fabric: Fabric,
    method: Any,
    genes: list[int],
    types: list[int],
    n_types: int,
    as_maps: bool,
    n_probes: int,
    n_patches: int | None,
    n_steps: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(genes, types) importance, or the (genes, H, W) maps of the one type, by the network of a default run."""
    from sjg.training import Tissue, attribution_maps, importance_by, load_model

    model, state, parameters = load_model(dict(stored), device=fabric.device)
    parameters = parameters.replace(n_probes=n_probes, n_importance_patches=n_patches or parameters.n_importance_patches)
    model.requires_grad_(False)
    if state.posterior.shape[1] != n_types:
        raise InputError("The cell types are not those of the run; run sjg.tl.segment again.")
    tissue = Tissue(inputs.molecules, inputs.nuclei, parameters)
    if len(tissue.nuclei) != len(state.density):
        raise InputError("The nuclei are not those of the run; run sjg.tl.segment again.")
    if as_maps:
        return attribution_maps(method, model, tissue, state, parameters, genes=genes, target=types[0], n_steps=n_steps, rng=rng)
    return importance_by(method, model, tissue, state, parameters, genes=genes, types=types, n_steps=n_steps, rng=rng)


def _positions(asked: Sequence[str] | str | None, valid: list[str], kind: str, where: str) -> list[int]:
    if asked is None:
        return list(range(len(valid)))
    wanted = [asked] if isinstance(asked, str) else [str(a) for a in asked]
    position = {name: i for i, name in enumerate(valid)}
    missing = [w for w in wanted if w not in position]
    if missing or not wanted:
        raise MissingElementError(f"{where} has no {kind} {missing}; it has {', '.join(valid[:10])}{', ...' if len(valid) > 10 else ''}.")
    return [position[w] for w in wanted]
