"""Cells over the tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb

from sjg._keys import DEFAULT_KEY
from sjg._keys import labels_key as default_labels_key
from sjg.access import rasterize_shapes
from sjg.core import InputError, MissingElementError
from sjg.core.colors import NUCLEI_COLOR, TRUTH_COLOR
from sjg.pl._colouring import Colouring, colour_cells
from sjg.pl._elements import check_labels, choose, run_record
from sjg.pl._figure import finish, new_figure, root_figure
from sjg.pl._legend import add_legend, color_entries, legend_width, outline_entry
from sjg.pl._overlay import gray_background, outline_width, paint_cells, paint_rim, typical_diameter
from sjg.pl._scale_bar import add_scale_bar, micrometres_per_unit, unit_name
from sjg.pl._transcripts import draw_transcripts
from sjg.pl._view import Crop, View, make_view, sample_image, sample_labels

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from spatialdata import SpatialData

#: longer side of a new figure's axes in inches
_SIZE_IN = 6.0
#: display pixels per inch of the axes
_PIXELS_PER_INCH = 250
_MAX_PIXELS = 2400


def segmentation(
    sdata: SpatialData,
    labels_key: str = default_labels_key(DEFAULT_KEY),
    *,
    image_key: str | None = None,
    channel: str | int | None = None,
    nuclei_key: str | None = None,
    truth_key: str | None = None,
    color: str | None = "cell_type",
    crop: Crop | None = None,
    transcripts: bool = False,
    genes: Sequence[str] | None = None,
    points_key: str | None = None,
    coordinate_system: str = "global",
    palette: Mapping[str, str] | None = None,
    max_types: int | None = 20,
    cmap: str = "viridis",
    fill_alpha: float | None = None,
    outline_pt: float = 0.9,
    legend: bool = True,
    scale_bar: bool = True,
    pixel_size_um: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw cells, coloured by type, over the nuclear image.

    Elements are sampled at display resolution, so a whole section takes about as long as a small crop.

    Parameters
    ----------
    sdata
        Object with the labels.
    labels_key
        Labels element with the cells.
    image_key
        Image under the cells; default: the one that the run used, else the only one, else none.
    channel
        Channel of that image, by name or number; default: DAPI where there is a channel of that name, else the first.
    nuclei_key
        Labels or shapes whose outlines are drawn in white; default: those that the run used, else ``labels["nuclei"]`` where it exists.
        ``""`` draws none.
    truth_key
        Labels or shapes with the true cells, outlined in yellow.
    color
        Column of the table that annotates the labels, or a gene of that table, or one colour for all cells, or None for a cycle of
        colours that tells neighbours apart (also used where no table annotates the labels).
    crop
        Window (x0, x1, y0, y1) in units of the coordinate system; default: the extent of the labels.
    transcripts
        Draw transcripts as dots, assigned and unassigned ones in two colours.
    genes
        Draw the transcripts of these genes only, one colour and marker per gene (implies `transcripts`).
    points_key
        Points with the transcripts; default: those that the run used, else the only ones.
    coordinate_system
        Where the elements are aligned.
    palette
        Colour per category, over those of ``uns["cell_type_colors"]`` and the built-in ones.
    max_types
        At most this many categories, the most frequent in the window, get a colour of their own; the others are gray. None for all.
    cmap
        Colour map for numeric `color`.
    fill_alpha
        Opacity of the cells in [0, 1]; default: light where cells are large on the page, strong where they are small.
    outline_pt
        Width of the outlines in points; 0 draws none.
    legend
        Draw a legend beside the axes.
    scale_bar
        Draw a scale bar, in micrometres where the pixel size is known.
    pixel_size_um
        Side of a full-resolution pixel of the image in micrometres; default: what the run recorded.
    title
        Title of the axes.
    ax
        Axes to draw into; default: a new figure that pyplot does not track.
    save
        File to write the figure to; the suffix gives the format.
    show
        True opens a window; None shows a new figure in notebooks; False never shows.

    Returns
    -------
    The axes, in units of the coordinate system with y pointing down.

    Raises
    ------
    MissingElementError
        If a key, column, gene or coordinate system does not exist.
    InputError
        If an argument cannot be used.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(60, 60), n_genes=20)
    >>> ax = sjg.pl.segmentation(sdata, "cells", crop=(10, 50, 10, 50), title="a corner", show=False)
    >>> ax.get_title()
    'a corner'
    """
    _check_numbers(fill_alpha, outline_pt, max_types, pixel_size_um)
    check_labels(sdata, labels_key)
    record = run_record(sdata, labels_key)
    image = choose(list(sdata.images), image_key, record.get("image_key"), "images", "image_key", needed=False)
    rim_keys = {"nuclei": _nuclei_key(sdata, nuclei_key, record, labels_key), "truth": truth_key}

    own = ax is None
    height_in, width_in, view = _layout(sdata, labels_key, crop, coordinate_system, ax)
    labels = sample_labels(sdata, labels_key, view)
    ids = np.unique(labels[labels > 0])
    colouring = colour_cells(sdata, labels_key, ids, color=color, palette=palette, max_types=max_types, cmap=cmap)
    underlay = None if image is None else sample_image(sdata, image, view, channel)
    canvas = gray_background(underlay, view.shape)

    wanted_px = outline_pt / 72.0 * view.shape[1] / width_in
    width_px = outline_width(labels, wanted_px) if outline_pt > 0 else 0
    # a colour bar reads wrong through a faint fill
    faintest = 0.35 if colouring.mappable is None else 0.75
    alpha = fill_alpha if fill_alpha is not None else float(np.clip(0.85 - typical_diameter(labels) / 120.0, faintest, 0.75))
    paint_cells(canvas, labels, colouring.ids, colouring.rgb, fill_alpha=alpha, outline_px=width_px)
    handles: list[Artist] = color_entries(colouring.legend)
    for kind, rim_color, factor in (("truth", TRUTH_COLOR, 0.6), ("nuclei", NUCLEI_COLOR, 0.6)):
        key = rim_keys[kind]
        if key is None:
            continue
        _check_instances(sdata, key, kind)
        # rims of small nuclei would paint them over: the cells tell enough then
        if width_px == 0:
            continue
        rims = _instances(sdata, key, view)
        rim_px = outline_width(rims, wanted_px * factor, marks=True)
        if rim_px:
            paint_rim(canvas, rims, to_rgb(rim_color), rim_px)
            handles.append(outline_entry("true cell" if kind == "truth" else "nucleus", rim_color))

    if ax is None:
        figure = new_figure((width_in + legend * legend_width(handles, height_in), height_in + 0.3), show=show)
        ax = figure.subplots()
    _show_canvas(ax, canvas, view)
    if transcripts or genes is not None:
        points = choose(list(sdata.points), points_key, record.get("points_key"), "points", "points_key", needed=True)
        if points is not None:
            handles += draw_transcripts(ax, sdata, points, view, labels_key=labels_key, genes=genes, width_in=width_in)
    if scale_bar:
        um = micrometres_per_unit(sdata, labels_key, coordinate_system, pixel_size_um=pixel_size_um, record=record)
        add_scale_bar(ax, view.crop[1] - view.crop[0], um, unit_name(sdata, labels_key, coordinate_system))
    if legend:
        _explain(ax, colouring, handles, height_in)
    if title is not None:
        ax.set_title(title, fontsize=10)
    finish(root_figure(ax), save=save, show=show, own=own)
    return ax


def _check_numbers(fill_alpha: float | None, outline_pt: float, max_types: int | None, pixel_size_um: float | None) -> None:
    if fill_alpha is not None and not 0.0 <= fill_alpha <= 1.0:
        raise InputError(f"fill_alpha={fill_alpha!r}: give a number in [0, 1]")
    if not outline_pt >= 0.0:
        raise InputError(f"outline_pt={outline_pt!r}: give 0 or a positive width in points")
    if max_types is not None and max_types < 1:
        raise InputError(f"max_types={max_types!r}: give a positive number, or None for all types")
    if pixel_size_um is not None and not pixel_size_um > 0:
        raise InputError(f"pixel_size_um={pixel_size_um!r}: give a positive length in micrometres")


def _layout(sdata: SpatialData, key: str, crop: Crop | None, coordinate_system: str, ax: Axes | None) -> tuple[float, float, View]:
    """Height and width of the axes in inches, and the window at a resolution that suits them."""
    view = make_view(sdata, key, crop, coordinate_system, _MAX_PIXELS)
    aspect = view.shape[0] / view.shape[1]
    if ax is None:
        width_in = _SIZE_IN if aspect <= 1 else _SIZE_IN / aspect
        # room for a legend beside a very wide strip
        height_in = max(width_in * aspect, 0.5)
    else:
        figure, position = root_figure(ax), ax.get_position()
        width_in, height_in = position.width * figure.get_figwidth(), position.height * figure.get_figheight()
        width_in = max(min(width_in, height_in / aspect), 0.5)
    pixels = int(min(max(width_in, width_in * aspect) * _PIXELS_PER_INCH, _MAX_PIXELS))
    return height_in, width_in, make_view(sdata, key, crop, coordinate_system, max(pixels, 64))


def _nuclei_key(sdata: SpatialData, asked: str | None, record: Mapping[str, Any], labels_key: str) -> str | None:
    if asked == "":
        return None
    if asked is not None:
        return asked
    recorded = record.get("nuclei_key")
    for candidate in (recorded, "nuclei"):
        if isinstance(candidate, str) and candidate != labels_key and (candidate in sdata.labels or candidate in sdata.shapes):
            return candidate
    return None


def _check_instances(sdata: SpatialData, key: str, kind: str) -> None:
    if key not in sdata.labels and key not in sdata.shapes:
        raise MissingElementError(
            f"{kind}_key={key!r} is neither a labels nor a shapes element; labels: {sorted(sdata.labels)}, shapes: {sorted(sdata.shapes)}"
        )


def _instances(sdata: SpatialData, key: str, view: View) -> NDArray[np.int64]:
    """Instances of a labels or shapes element at display resolution."""
    if key in sdata.labels:
        return sample_labels(sdata, key, view)
    drawn, _ = rasterize_shapes(sdata, key, view.grid, coordinate_system=view.coordinate_system)
    return drawn.astype(np.int64)


def _show_canvas(ax: Axes, canvas: NDArray[np.float32], view: View) -> None:
    ax.imshow(canvas, extent=view.extent, origin="upper", interpolation="antialiased", aspect="equal")
    x0, x1, y0, y1 = view.crop
    ax.set_xlim(x0, x1)
    ax.set_ylim(y1, y0)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _explain(ax: Axes, colouring: Colouring, handles: list[Artist], height_in: float) -> None:
    if colouring.mappable is not None:
        drawn: np.ndarray[Any, Any] = np.asarray(colouring.mappable.get_array())
        beyond = drawn.size > 0 and drawn.max() > colouring.mappable.norm.vmax
        bar = root_figure(ax).colorbar(
            colouring.mappable, ax=ax, shrink=0.6, pad=0.02, location="left", extend="max" if beyond else "neither"
        )
        bar.set_label(colouring.title)
    add_legend(ax, handles, colouring.title if colouring.legend else "", height_in)
