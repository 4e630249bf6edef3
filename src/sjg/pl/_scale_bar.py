"""Scale bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from spatialdata.transformations import get_transformation

from sjg.access import image_pixel_size_um, labels_pixel_size_um, units_per_pixel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from spatialdata import SpatialData

#: share of the width of the axes that the bar takes at most
_MAX_SHARE = 0.25


def micrometres_per_unit(
    sdata: SpatialData, labels_key: str | None, coordinate_system: str, *, pixel_size_um: float | None, record: Mapping[str, Any]
) -> float | None:
    """Micrometres per unit of the coordinate system; None where it is not known.

    Known from `pixel_size_um`, the side of a pixel of the image, else from the size that the run of the labels recorded for their
    pixels, else from the frames of the only image and the only transcripts, as a run would deduce it.
    """
    if labels_key is not None:
        recorded = record.get("pixel_size_um")
        size = float(recorded) if isinstance(recorded, int | float | np.number) and np.isfinite(recorded) and recorded > 0 else None
        if pixel_size_um is not None:
            size = labels_pixel_size_um(sdata, labels_key, coordinate_system=coordinate_system, pixel_size_um=pixel_size_um)
        if size is not None:
            return size / units_per_pixel(sdata, labels_key, coordinate_system)
    if len(sdata.images) == 1 and len(sdata.points) == 1:
        image, points = next(iter(sdata.images)), next(iter(sdata.points))
        if all(coordinate_system in get_transformation(sdata[key], get_all=True) for key in (image, points)):
            size = image_pixel_size_um(sdata, image, points, coordinate_system=coordinate_system)
            return None if size is None else size / units_per_pixel(sdata, image, coordinate_system)
    return None


def round_length(longest: float) -> float:
    """The largest of 1, 2, 5 x 10^k that is not above `longest`.

    Examples
    --------
    >>> round_length(73.0), round_length(0.3)
    (50.0, 0.2)
    """
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= longest * (1 + 1e-9)))


def unit_name(sdata: SpatialData, labels_key: str, coordinate_system: str) -> str:
    """What to call a unit of a coordinate system without physical size: ``px`` where it is a pixel of the labels or of an image."""
    images = [key for key, image in sdata.images.items() if coordinate_system in get_transformation(image, get_all=True)]
    sizes = [units_per_pixel(sdata, key, coordinate_system) for key in (labels_key, *images)]
    return "px" if any(abs(size - 1.0) < 1e-6 for size in sizes) else "units"


def add_scale_bar(ax: Axes, width_units: float, um_per_unit: float | None, unit: str) -> None:
    """Draw a bar of a round length, labelled in micrometres, or in `unit` where no physical size is known."""
    scale = 1.0 if um_per_unit is None else um_per_unit
    length = round_length(_MAX_SHARE * width_units * scale)
    if um_per_unit is None:
        text = f"{length:g} {unit}"
    else:
        text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bar = AnchoredSizeBar(
        ax.transData,
        length / scale,
        text,
        loc="lower right",
        pad=0.3,
        borderpad=0.4,
        sep=5,
        color="white",
        frameon=False,
        size_vertical=0.006 * abs(ax.get_ylim()[1] - ax.get_ylim()[0]),
        fill_bar=True,
        fontproperties=FontProperties(size=8),
    )
    # a dark rim keeps the bar legible on bright cells
    for artist in (*bar.size_bar.get_children(), *bar.txt_label.get_children()):
        artist.set_path_effects([withStroke(linewidth=2.0, foreground="black")])
    bar.set_gid("sjg-scale-bar")
    ax.add_artist(bar)
