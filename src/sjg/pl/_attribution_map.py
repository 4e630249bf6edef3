"""Where each gene matters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import Normalize, to_rgb

from sjg.core import InputError, MissingElementError
from sjg.core.colors import NUCLEI_COLOR
from sjg.pl._elements import check_labels, run_record
from sjg.pl._figure import finish, panels
from sjg.pl._overlay import outline_mask, outline_width
from sjg.pl._scale_bar import add_scale_bar, micrometres_per_unit, unit_name
from sjg.pl._view import Crop, View, channel_names, make_view, sample_image, sample_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from spatialdata import SpatialData

_PANEL_IN = 3.0
_MAX_PANELS = 24
_MAX_PIXELS = 800


def attribution_map(
    sdata: SpatialData,
    image_key: str,
    *,
    genes: Sequence[str] | None = None,
    n_genes: int = 4,
    labels_key: str | None = None,
    crop: Crop | None = None,
    coordinate_system: str = "global",
    shared_scale: bool = True,
    scale_bar: bool = True,
    cmap: str = "inferno",
    ax: Axes | Sequence[Axes] | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw attribution maps, one panel per gene.

    Parameters
    ----------
    sdata
        Object with the maps.
    image_key
        Image with one channel per gene, as :func:`sjg.tl.attribute` writes it with ``key_added``.
    genes
        Channels to draw; default: the `n_genes` channels with the highest mean in the window.
    n_genes
        Number of panels where `genes` is not given.
    labels_key
        Labels whose outlines are drawn over the maps.
    crop
        Window (x0, x1, y0, y1) in units of the coordinate system; default: the extent of the image.
    coordinate_system
        Where the elements are aligned.
    shared_scale
        One colour scale for all panels, so that genes can be compared; otherwise one for each panel.
    scale_bar
        Draw a scale bar in the last panel, in micrometres where the pixel size is known.
    cmap
        Colour map.
    ax
        Axes to draw into, one per gene; default: a new figure.
    save
        File to write the figure to.
    show
        True opens a window; None shows a new figure in notebooks; False never shows.

    Returns
    -------
    The figure.

    Raises
    ------
    MissingElementError
        If a key, gene or coordinate system does not exist.
    InputError
        If an argument cannot be used.

    Examples
    --------
    >>> import numpy as np, sjg
    >>> from spatialdata import SpatialData
    >>> from spatialdata.models import Image2DModel
    >>> maps = Image2DModel.parse(np.random.default_rng(0).random((2, 8, 8)), dims=("c", "y", "x"), c_coords=["Gad1", "Plp1"])
    >>> figure = sjg.pl.attribution_map(SpatialData(images={"maps": maps}), "maps", genes=["Plp1"], show=False)
    >>> figure.axes[0].get_title()
    'Plp1'
    """
    if image_key not in sdata.images:
        raise MissingElementError(
            f"images[{image_key!r}] does not exist; images: {sorted(sdata.images)}. Maps are written by sjg.tl.attribute(sdata, key_added={image_key!r})"
        )
    available = channel_names(sdata, image_key)
    view = make_view(sdata, image_key, crop, coordinate_system, _MAX_PIXELS)
    if genes is None:
        if not 1 <= n_genes <= _MAX_PANELS:
            raise InputError(f"n_genes={n_genes!r}: give 1 to {_MAX_PANELS} panels, or name the genes")
        means = [_mean(sample_image(sdata, image_key, _thumbnail(view), name)) for name in available]
        chosen = [available[i] for i in np.argsort([-mean for mean in means], kind="stable")[:n_genes]]
    else:
        chosen = [genes] if isinstance(genes, str) else list(genes)
        missing = [gene for gene in chosen if gene not in available]
        if missing:
            raise MissingElementError(f"genes {missing} are no channels of images[{image_key!r}]; channels: {available}")
        if not 1 <= len(chosen) <= _MAX_PANELS:
            raise InputError(f"{len(chosen)} genes given; 1 to {_MAX_PANELS} panels can be drawn")
    maps = [sample_image(sdata, image_key, view, gene) for gene in chosen]
    rims = None
    if labels_key is not None:
        check_labels(sdata, labels_key)
        labels = sample_labels(sdata, labels_key, view)
        rims = outline_mask(labels, max(outline_width(labels, 1.5), 1))

    aspect = view.shape[0] / view.shape[1]
    figure, axes = panels(len(chosen), ax=ax, size_in=(_PANEL_IN, _PANEL_IN * aspect + 0.3), show=show)
    common = _norm(np.concatenate([one.ravel() for one in maps])) if shared_scale else None
    for one, gene, panel in zip(maps, chosen, axes, strict=True):
        norm = common or _norm(one.ravel())
        drawn = panel.imshow(one, extent=view.extent, cmap=cmap, norm=norm, interpolation="antialiased")
        if rims is not None:
            overlay = np.zeros((*view.shape, 4), dtype=np.float32)
            overlay[rims] = (*to_rgb(NUCLEI_COLOR), 0.8)
            panel.imshow(overlay, extent=view.extent, interpolation="antialiased")
        panel.set_title(gene, fontsize=9, fontstyle="italic")
        panel.set_xticks([])
        panel.set_yticks([])
        if common is None:
            figure.colorbar(drawn, ax=panel, shrink=0.8).ax.tick_params(labelsize=7)
    if scale_bar:
        record = {} if labels_key is None else run_record(sdata, labels_key)
        um = micrometres_per_unit(sdata, labels_key, coordinate_system, pixel_size_um=None, record=record)
        add_scale_bar(axes[-1], view.crop[1] - view.crop[0], um, unit_name(sdata, image_key, coordinate_system))
    if common is not None:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
        bar.set_label("attribution", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    finish(figure, save=save, show=show, own=ax is None)
    return figure


def _thumbnail(view: View) -> View:
    """The same window in few pixels: enough to rank the channels of a large panel."""
    factor = max(view.shape) / 128
    return View(view.crop, (max(1, round(view.shape[0] / factor)), max(1, round(view.shape[1] / factor))), view.coordinate_system)


def _mean(values: np.ndarray[Any, Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else -np.inf


def _norm(values: np.ndarray[Any, Any]) -> Normalize:
    """Scale without the most extreme pixels, which would leave the rest dark."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Normalize(0.0, 1.0)
    low, high = np.percentile(finite, [1.0, 99.7])
    return Normalize(float(low), float(high) if high > low else float(low) + 1.0)
