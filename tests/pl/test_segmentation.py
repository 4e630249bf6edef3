from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

import sjg
from sjg.core import AmbiguousElementError, InputError, MissingElementError
from sjg.core.colors import NUCLEI_COLOR, TRUTH_COLOR
from sjg.pl._palette import type_colors
from sjg.pl._scale_bar import round_length


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def canvas(ax) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def at(ax, x: float, y: float) -> np.ndarray:
    """Colour of the picture at a place of the tissue."""
    array = canvas(ax)
    left, right, bottom, top = ax.images[0].get_extent()
    row = int((y - top) / (bottom - top) * array.shape[0])
    column = int((x - left) / (right - left) * array.shape[1])
    return array[row, column]


def has_color(ax, color: str) -> bool:
    return bool((np.abs(canvas(ax) - np.array(to_rgb(color))).max(axis=2) < 1e-3).any())


def test_cells_lie_where_they_are_in_the_colour_of_their_type(sdata):
    ax = sjg.pl.segmentation(sdata, nuclei_key="", fill_alpha=1.0, show=False)
    colors = type_colors(["absent", "glia", "neuron", "rare"])
    # centres of the cells in micrometres
    for (x, y), name in {(15, 15): "neuron", (37, 15): "glia", (17, 37): "neuron", (45, 39): "rare"}.items():
        assert np.allclose(at(ax, x, y), to_rgb(colors[name]), atol=1e-3)
    assert at(ax, 58, 5).max() < 0.1  # background
    assert ax.get_xlim() == (0, 60)
    assert ax.get_ylim() == (50, 0)
    assert texts(ax) == ["glia", "neuron", "rare"]


def test_crop_in_units_of_the_coordinate_system(sdata):
    um = sjg.pl.segmentation(sdata, crop=(5, 25, 5, 25), show=False)
    px = sjg.pl.segmentation(sdata, crop=(10, 50, 10, 50), coordinate_system="pixels", show=False)
    assert (um.get_xlim(), px.get_xlim()) == ((5, 25), (10, 50))
    assert np.allclose(canvas(um), canvas(px))
    assert texts(um) == ["neuron", "nucleus"]


def test_outlines_of_nuclei_and_truth_from_labels_and_shapes(sdata):
    plain = sjg.pl.segmentation(sdata, nuclei_key="", show=False)
    assert not has_color(plain, NUCLEI_COLOR)
    assert not has_color(plain, TRUTH_COLOR)
    marked = sjg.pl.segmentation(sdata, truth_key="truth", show=False)
    assert has_color(marked, NUCLEI_COLOR)
    assert has_color(marked, TRUTH_COLOR)
    # the truth equals the cells, so its rim lies on theirs: at the left edge of cell 1, and not in its middle
    assert np.allclose(at(marked, 5.05, 15), to_rgb(TRUTH_COLOR))
    assert not np.allclose(at(marked, 15, 12), to_rgb(TRUTH_COLOR))
    assert texts(marked)[-2:] == ["true cell", "nucleus"]
    none = sjg.pl.segmentation(sdata, truth_key="truth", outline_pt=0, show=False)
    assert not has_color(none, TRUTH_COLOR)


def test_rare_types_share_gray(sdata):
    ax = sjg.pl.segmentation(sdata, max_types=1, nuclei_key="", fill_alpha=1.0, show=False)
    assert texts(ax) == ["neuron", "2 other types"]
    assert np.allclose(at(ax, 37, 15), at(ax, 45, 39))


def test_palettes_given_and_stored(sdata):
    sdata.tables["sjg_table"].uns["cell_type_colors"] = ["#000001", "#00ff00", "#ff0000", "#0000ff"]
    ax = sjg.pl.segmentation(sdata, nuclei_key="", palette={"glia": "#123456"}, fill_alpha=1.0, show=False)
    assert np.allclose(at(ax, 15, 15), (1, 0, 0), atol=1e-3)
    assert np.allclose(at(ax, 37, 15), to_rgb("#123456"), atol=1e-3)
    assert sdata.tables["sjg_table"].uns["cell_type_colors"] == ["#000001", "#00ff00", "#ff0000", "#0000ff"]


def test_numbers_and_genes_get_a_colour_bar(sdata):
    for color, brightest in (("n_transcripts", (45, 39)), ("Plp1", (37, 15))):
        ax = sjg.pl.segmentation(sdata, color=color, nuclei_key="", fill_alpha=1.0, show=False)
        assert np.allclose(at(ax, *brightest), mpl.colormaps["viridis"](1.0)[:3], atol=0.02)
        assert len(ax.figure.axes) == 2


def test_one_colour_and_no_table(sdata):
    assert np.allclose(
        at(sjg.pl.segmentation(sdata, color="#ff8800", nuclei_key="", fill_alpha=1.0, show=False), 15, 15), to_rgb("#ff8800"), atol=1e-3
    )
    ax = sjg.pl.segmentation(sdata, "nuclei", fill_alpha=1.0, show=False, image_key="dapi")
    neighbours = [at(ax, 15, 15), at(ax, 37, 15), at(ax, 17, 37)]
    assert len({tuple(color) for color in neighbours}) == 3


def test_transcripts_assigned_or_not_and_by_gene(sdata):
    ax = sjg.pl.segmentation(sdata, transcripts=True, show=False)
    inside, outside = (group.get_offsets() for group in ax.collections)
    assert (len(inside), len(outside)) == (4, 2)
    assert [15.0, 15.0] in inside.tolist()
    assert texts(ax)[-2:] == ["transcript in a cell", "transcript in no cell"]
    by_gene = sjg.pl.segmentation(sdata, genes=["Plp1", "Aqp4"], crop=(0, 60, 0, 30), show=False)
    assert [len(group.get_offsets()) for group in by_gene.collections] == [1, 0]
    assert texts(by_gene)[-2:] == ["Plp1", "Aqp4"]


def test_scale_bar_says_micrometres_where_they_are_known(sdata):
    def label(ax):
        (bar,) = [artist for artist in ax.artists if artist.get_gid() == "sjg-scale-bar"]
        return bar.txt_label.get_text()

    assert label(sjg.pl.segmentation(sdata, show=False)) == "10 µm"
    # a quarter of 120 px is 15 um
    assert label(sjg.pl.segmentation(sdata, coordinate_system="pixels", show=False)) == "10 µm"
    del sdata.tables["sjg_table"].uns["sjg"]["grid"]
    del sdata.points["transcripts"]
    assert label(sjg.pl.segmentation(sdata, coordinate_system="pixels", image_key="dapi", show=False)) == "20 px"
    assert label(sjg.pl.segmentation(sdata, image_key="dapi", show=False)) == "10 units"
    assert label(sjg.pl.segmentation(sdata, image_key="dapi", pixel_size_um=0.1, show=False)) == "2 µm"
    assert not sjg.pl.segmentation(sdata, image_key="dapi", scale_bar=False, show=False).artists


@pytest.mark.parametrize(("longest", "expected"), [(1.0, 1.0), (1.99, 1.0), (2.0, 2.0), (73, 50), (0.3, 0.2), (999, 500)])
def test_round_length(longest, expected):
    assert round_length(longest) == pytest.approx(expected)


def test_legends_do_not_cover_the_data(sdata):
    ax = sjg.pl.segmentation(sdata, transcripts=True, show=False)
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1
    assert sjg.pl.segmentation(sdata, legend=False, show=False).get_legend() is None


def test_small_and_large_axes(sdata):
    figure = Figure(figsize=(8, 4))
    small, large = figure.add_axes((0.02, 0.4, 0.1, 0.2)), figure.add_axes((0.2, 0.05, 0.6, 0.9))
    for ax in (small, large):
        assert sjg.pl.segmentation(sdata, ax=ax, legend=False, show=False) is ax
    assert max(canvas(small).shape) < max(canvas(large).shape)
    figure.savefig(io.BytesIO())


def test_saved_files_and_untouched_pyplot(sdata, tmp_path):
    import matplotlib.pyplot as plt

    before, figures = dict(mpl.rcParams), plt.get_fignums()
    sjg.pl.segmentation(sdata, save=tmp_path / "cells.png")
    sjg.pl.segmentation(sdata, save=str(tmp_path / "cells.pdf"))
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == figures
    picture = imread(tmp_path / "cells.png")
    assert min(picture.shape[:2]) > 600
    assert picture[..., :3].std() > 0.1
    assert (tmp_path / "cells.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(InputError, match="does not exist"):
        sjg.pl.segmentation(sdata, save=tmp_path / "no" / "cells.png")


def test_nothing_is_written_to_the_object(sdata):
    keys = {name: list(getattr(sdata, name)) for name in ("images", "labels", "points", "shapes", "tables")}
    uns = list(sdata.tables["sjg_table"].uns)
    sjg.pl.segmentation(sdata, transcripts=True, show=False)
    assert keys == {name: list(getattr(sdata, name)) for name in keys}
    assert list(sdata.tables["sjg_table"].uns) == uns


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"labels_key": "nope"}, MissingElementError, "sjg_cells"),
        ({"image_key": "nope"}, MissingElementError, "dapi"),
        ({"nuclei_key": "nope"}, MissingElementError, "nuclei"),
        ({"truth_key": "nope"}, MissingElementError, "truth"),
        ({"color": "nope"}, MissingElementError, "cell_type"),
        ({"color": "nope", "labels_key": "nuclei"}, MissingElementError, "no.*table|table"),
        ({"genes": ["nope"]}, MissingElementError, "Gad1"),
        ({"genes": "Gad1"}, InputError, "list"),
        ({"points_key": "nope", "transcripts": True}, MissingElementError, "transcripts"),
        ({"coordinate_system": "nope"}, InputError, "pixels"),
        ({"fill_alpha": 2.0}, InputError, "fill_alpha"),
        ({"outline_pt": -1.0}, InputError, "outline_pt"),
        ({"max_types": 0}, InputError, "max_types"),
        ({"pixel_size_um": 0.0}, InputError, "pixel_size_um"),
        ({"color": "n_transcripts", "cmap": "nope"}, InputError, "cmap"),
    ],
)
def test_errors(sdata, arguments, error, word):
    with pytest.raises(error, match=word):
        sjg.pl.segmentation(sdata, **arguments, show=False)


def test_several_points_and_none_chosen(sdata):
    del sdata.tables["sjg_table"].uns["sjg"]
    sdata.points["other"] = sdata.points["transcripts"]
    with pytest.raises(AmbiguousElementError, match="points_key"):
        sjg.pl.segmentation(sdata, transcripts=True, show=False)
