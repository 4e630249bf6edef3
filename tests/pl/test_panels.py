"""Plots of several panels: comparison, attribution maps, history, quality; and the gene importance."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from spatialdata.models import TableModel

import sjg
from sjg.core import InputError, MissingElementError
from sjg.pl._comparison import metrics_frame
from sjg.pl._gene_importance import expressing_fraction, top_genes
from sjg.pl._palette import type_colors


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


class TestComparison:
    def test_same_window_and_colours(self, sdata):
        sdata.labels["copy"] = sdata.labels["sjg_cells"]
        figure = sjg.pl.comparison(sdata, {"nuclei only": "nuclei", "sjg": "sjg_cells"}, crop=(0, 30, 0, 30), show=False)
        left, right = figure.axes
        assert (left.get_title(), right.get_title()) == ("nuclei only", "sjg")
        assert left.get_xlim() == right.get_xlim() == (0, 30)
        # only what is in the window is explained
        assert [text.get_text() for text in right.get_legend().get_texts()] == ["glia", "neuron", "nucleus"]
        # ids without types are gray, not in the colours of types
        cell = np.asarray(left.images[0].get_array())
        neuron = to_rgb(type_colors(["absent", "glia", "neuron", "rare"])["neuron"])
        assert not (np.abs(cell - neuron).max(axis=2) < 1e-3).any()
        assert png(figure)

    def test_labels_whose_table_has_no_types_are_gray(self, sdata):
        sdata.labels["mine"] = sdata.labels["sjg_cells"]
        table = sdata.tables["sjg_table"].copy()
        table.obs = table.obs[["cell_id"]].assign(region=pd.Categorical(["mine"] * 4))
        del table.uns["spatialdata_attrs"]
        sdata.tables["mine_table"] = TableModel.parse(table, region="mine", region_key="region", instance_key="cell_id")
        figure = sjg.pl.comparison(sdata, ["mine", "sjg_cells"], show=False)
        painted = np.asarray(figure.axes[0].images[0].get_array())
        assert np.ptp(painted, axis=2).max() < 1e-6

    def test_metrics_table(self, sdata):
        scores = {
            "nuclei": pd.DataFrame({"metric": ["mean_iou"], "value": [0.25]}),
            "sjg_cells": pd.DataFrame({"metric": ["mean_iou"], "value": [0.75]}),
        }
        figure = sjg.pl.comparison(sdata, ["nuclei", "sjg_cells"], metrics=scores, show=False)
        (table,) = [table for ax in figure.axes for table in ax.tables]
        shown = [cell.get_text().get_text() for cell in table.get_celld().values()]
        assert {"0.250", "0.750", "mean iou", "nuclei", "sjg_cells"} <= set(shown)

    def test_metrics_frames(self):
        wide = pd.DataFrame({"nuclei": [0.1], "sjg_cells": [0.2]}, index=["mean_iou"])
        titles = {"A": "sjg_cells", "B": "nuclei", "C": "other"}
        found = metrics_frame(wide, titles)
        assert found.columns.tolist() == ["A", "B", "C"]
        assert found.loc["mean_iou", ["A", "B"]].tolist() == [0.2, 0.1]
        assert np.isnan(found.loc["mean_iou", "C"])
        with pytest.raises(InputError, match="no column"):
            metrics_frame(wide, {"C": "other"})
        with pytest.raises(InputError, match="'metric' and 'value'"):
            metrics_frame({"nuclei": wide}, titles)

    def test_given_axes(self, sdata):
        figure = Figure()
        axes = figure.subplots(1, 2)
        assert sjg.pl.comparison(sdata, ["nuclei", "sjg_cells"], ax=axes, show=False) is figure
        with pytest.raises(InputError, match="2 panels"):
            sjg.pl.comparison(sdata, ["nuclei", "sjg_cells"], ax=axes[0], show=False)

    @pytest.mark.parametrize("keys", ["sjg_cells", [], {}])
    def test_bad_keys(self, sdata, keys):
        with pytest.raises(InputError, match="labels_keys"):
            sjg.pl.comparison(sdata, keys, show=False)
        with pytest.raises(MissingElementError, match="nuclei"):
            sjg.pl.comparison(sdata, ["nope"], show=False)


class TestAttributionMap:
    def test_panels_are_the_top_channels(self, sdata):
        figure = sjg.pl.attribution_map(sdata, "maps", n_genes=2, labels_key="sjg_cells", show=False)
        assert [ax.get_title() for ax in figure.axes[:2]] == ["Plp1", "Aqp4"]
        assert np.median(np.asarray(figure.axes[0].images[0].get_array())) == pytest.approx(3.0, abs=0.05)
        # one scale for both
        assert figure.axes[0].images[0].norm.vmax == figure.axes[1].images[0].norm.vmax
        assert png(figure)

    def test_own_scales_and_crop(self, sdata):
        figure = sjg.pl.attribution_map(sdata, "maps", genes=["Gad1", "Plp1"], shared_scale=False, crop=(0, 10, 0, 10), show=False)
        first, second = figure.axes[:2]
        assert first.get_xlim() == (0, 10)
        assert first.images[0].norm.vmax < second.images[0].norm.vmax

    @pytest.mark.parametrize(
        ("arguments", "error", "word"),
        [
            ({"image_key": "nope"}, MissingElementError, "tl.attribute"),
            ({"image_key": "maps", "genes": ["nope"]}, MissingElementError, "Gad1"),
            ({"image_key": "maps", "genes": []}, InputError, "0 genes"),
            ({"image_key": "maps", "n_genes": 0}, InputError, "n_genes"),
            ({"image_key": "maps", "labels_key": "nope"}, MissingElementError, "sjg_cells"),
        ],
    )
    def test_errors(self, sdata, arguments, error, word):
        with pytest.raises(error, match=word):
            sjg.pl.attribution_map(sdata, **arguments, show=False)


class TestHistory:
    def test_series_and_phases(self, sdata):
        figure = sjg.pl.history(sdata, show=False)
        loss, fraction = figure.axes
        assert (loss.get_ylabel(), fraction.get_ylabel()) == ("loss", "fraction assigned")
        x, y = loss.lines[0].get_data()
        assert x.tolist() == [0, 1, 2, 3, 4]  # the epoch without a value is left out
        assert y.tolist() == [3.0, 2.0, 1.5, 1.2, 1.1]
        assert [text.get_text() for text in loss.texts] == ["warm", "train"]
        assert png(figure)

    def test_chosen_series_in_given_axes(self, sdata):
        figure = Figure()
        ax = figure.subplots()
        assert sjg.pl.history(sdata, keys=["fraction_assigned"], ax=ax, show=False) is figure
        assert ax.get_ylabel() == "fraction assigned"

    def test_errors(self, sdata):
        with pytest.raises(MissingElementError, match="fraction_assigned"):
            sjg.pl.history(sdata, keys=["nope"], show=False)
        record = sdata.tables["sjg_table"].uns["sjg"]
        record["history"] = {"epoch": [0, 1], "loss": [1.0]}
        with pytest.raises(InputError, match="lengths"):
            sjg.pl.history(sdata, show=False)
        record["history"] = {"epoch": [0, 1], "phase": ["a", "b"]}
        with pytest.raises(InputError, match="no numbers"):
            sjg.pl.history(sdata, show=False)
        del record["history"]
        with pytest.raises(MissingElementError, match="tl.segment"):
            sjg.pl.history(sdata, show=False)


class TestQuality:
    def test_bars_count_every_cell(self, sdata):
        figure = sjg.pl.quality(sdata, show=False)
        transcripts, area, confidence, types = figure.axes
        for ax in (transcripts, area, confidence):
            assert sum(bar.get_height() for bar in ax.patches) == 4
        assert [label.get_text() for label in types.get_yticklabels()] == ["neuron", "glia", "rare"]
        assert [bar.get_width() for bar in types.patches] == [2, 1, 1]
        colors = type_colors(["absent", "glia", "neuron", "rare"])
        assert np.allclose(types.patches[0].get_facecolor()[:3], to_rgb(colors["neuron"]))
        assert "µm²" in area.get_xlabel()
        assert png(figure)

    def test_pixels_and_missing_columns(self, sdata):
        obs = sdata.tables["sjg_table"].obs
        obs["area_px2"] = obs.pop("area_um2")
        del obs["cell_type"]
        figure = sjg.pl.quality(sdata, show=False)
        assert [ax.get_xlabel() for ax in figure.axes] == ["transcripts per cell", "area of a cell (px²)", "confidence of the cell type"]
        sdata.tables["sjg_table"].obs = obs[["region", "cell_id"]]
        with pytest.raises(MissingElementError, match="n_transcripts"):
            sjg.pl.quality(sdata, show=False)


class TestGeneImportance:
    def test_top_genes_of_each_type(self, sdata):
        ax = sjg.pl.gene_importance(sdata, n_genes=1, show=False)
        assert [label.get_text() for label in ax.get_yticklabels()] == ["glia", "neuron", "rare"]
        assert [label.get_text() for label in ax.get_xticklabels()] == ["Plp1", "Gad1", "Aqp4"]
        values = np.asarray(ax.collections[0].get_array()).reshape(3, 3)
        assert np.allclose(np.diag(values), 1.0)  # scaled within each type
        areas = ax.collections[0].get_sizes().reshape(3, 3)
        assert areas[0, 0] == areas.max()  # every glial cell has Plp1
        assert areas[1, 0] == pytest.approx(areas[0, 0] / 2)  # one of two neurons has Plp1
        assert areas[0, 1] == 0
        assert png(ax.figure)

    def test_heatmap_and_unscaled_values(self, sdata):
        ax = sjg.pl.gene_importance(sdata, n_genes=1, kind="heatmap", scale=False, cell_types=["neuron", "glia"], show=False)
        assert np.allclose(ax.images[0].get_array(), [[2.0, 0.3], [0.1, 3.0]])

    def test_most_frequent_types(self, sdata):
        ax = sjg.pl.gene_importance(sdata, max_types=1, show=False)
        assert [label.get_text() for label in ax.get_yticklabels()] == ["neuron"]

    def test_kernels(self, sdata):
        table = sdata.tables["sjg_table"]
        assert top_genes(table.varm["gene_importance"], 1) == ["Plp1", "Gad1", "Aqp4"]
        shares = expressing_fraction(table, ["Gad1", "Plp1"], ["neuron", "absent"])
        assert shares.to_numpy().tolist() == [[1.0, 0.5], [0.0, 0.0]]

    @pytest.mark.parametrize(
        ("arguments", "error", "word"),
        [
            ({"table_key": "nope"}, MissingElementError, "sjg_table"),
            ({"cell_types": ["nope"]}, MissingElementError, "neuron"),
            ({"kind": "nope"}, InputError, "dots"),
            ({"n_genes": 0}, InputError, "n_genes"),
        ],
    )
    def test_errors(self, sdata, arguments, error, word):
        with pytest.raises(error, match=word):
            sjg.pl.gene_importance(sdata, **arguments, show=False)
        del sdata.tables["sjg_table"].varm["gene_importance"]
        with pytest.raises((MissingElementError, InputError)):
            sjg.pl.gene_importance(sdata, show=False)
