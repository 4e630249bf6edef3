"""The published self-training: what it keeps, its gate, both kinds of input, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from sjg.core import Channels, CheckpointError, InputError
from sjg.metrics import instance_iou
from sjg.training import PublishedParameters, load_published, make_fabric, sample_molecules, segment_published
from sjg.training._published import PublishedRun
from sjg.training._published_features import ChannelFeatures, TranscriptFeatures
from sjg.training._published_gate import tissue_gate, window_attribution
from sjg.training._windows import Window

SMALL = PublishedParameters(
    n_rounds=4,
    patch_size_px=48,
    channels=(8, 12),
    attribution_epoch=2,
    attribution_interval=1,
    n_importance_patches=2,
    n_probes=2,
    checkpoint_interval=1,
)


def run(planted, parameters=SMALL, *, data=None, types=None, **kwargs):
    return segment_published(
        planted.molecules if data is None else data,
        planted.nuclei,
        types or planted.types,
        parameters,
        fabric=make_fabric("cpu"),
        **kwargs,
    )


def densities(planted, sigma_px):
    """Blurred histograms by SciPy, as the original code's patches hold them."""
    pixel = planted.molecules.yx_px.astype(int)
    dense = np.zeros((len(planted.molecules.gene_names), *planted.nuclei.shape))
    np.add.at(dense, (planted.molecules.gene, pixel[:, 0], pixel[:, 1]), 1)
    return ndimage.gaussian_filter(dense, (0, sigma_px, sigma_px), mode="constant", truncate=4).astype(np.float32)


def as_channels(dense, names):
    return Channels(names, dense.shape[1:], lambda rows, columns: dense[:, rows, columns])


@pytest.fixture(scope="module")
def trained(planted):
    """A run after some epochs, before any attribution."""
    parameters = SMALL.replace(learning_rate=1e-2)
    state = PublishedRun(planted.molecules, planted.nuclei, planted.types, parameters, fabric=make_fabric("cpu"))
    for _ in range(45):
        state.parameters = parameters.replace(attribution="none")
        state.train_epoch()
    state.parameters = parameters
    return state


def test_cells_grow_beyond_nuclei_which_stay(planted, trained):
    inside = planted.nuclei > 0
    np.testing.assert_array_equal(trained.labels[inside], planted.nuclei[inside])
    assert instance_iou(planted.cells, trained.labels) > instance_iou(planted.cells, planted.nuclei) + 0.2


def test_outputs_of_a_run(planted):
    found = run(planted)
    inside = planted.nuclei > 0
    np.testing.assert_array_equal(found.labels[inside], planted.nuclei[inside])
    pixel = planted.molecules.yx_px.astype(int)
    np.testing.assert_array_equal(found.molecule_cell, found.labels[pixel[:, 0], pixel[:, 1]])
    assert ((found.molecule_confidence >= 0) & (found.molecule_confidence <= 1)).all()
    assert [record["epoch"] for record in found.history] == [1, 2, 3, 4]
    # the first epoch only warms up
    assert found.history[0]["covered"] == pytest.approx(inside.mean())
    assert np.isfinite(found.gene_importance).all()
    network, instance_type, parameters = load_published(found.network, 3)
    assert sorted(network.state_dict()) == sorted(name.replace("__", ".") for name in found.network["weights"])
    assert parameters == SMALL
    np.testing.assert_array_equal(instance_type[1:] - 1, planted.types.initial)
    with pytest.raises(InputError, match="incomplete"):
        load_published({**found.network, "weights": {}}, 3)


def test_densities_as_channels_are_the_same_input_as_their_transcripts(planted):
    sigma = 1.7
    transcripts = TranscriptFeatures(planted.molecules, planted.nuclei.shape, sigma_px=sigma)
    channels = ChannelFeatures(as_channels(densities(planted, sigma), planted.molecules.gene_names))
    embedding = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    windows = [Window(10, 20, 40, 40), Window(-8, 70, 40, 40)]
    # SciPy has cut the blur at the border of the tissue too
    np.testing.assert_allclose(transcripts.maps(windows[:1], embedding), channels.maps(windows[:1], embedding), atol=2e-3)
    inner = np.s_[0, :, 16:40, :18]
    np.testing.assert_allclose(transcripts.maps(windows[1:], embedding)[inner], channels.maps(windows[1:], embedding)[inner], atol=2e-3)
    groups = planted.nuclei > 0
    np.testing.assert_allclose(transcripts.totals(groups, 2).sum(0), channels.totals(groups, 2).sum(0), rtol=0.1)


def test_a_run_on_channels(planted):
    channels = as_channels(densities(planted, 1.0), planted.molecules.gene_names)
    found = run(planted, SMALL.replace(n_rounds=40, learning_rate=1e-2, attribution="none"), data=channels)
    assert len(found.molecule_cell) == len(found.molecule_confidence) == 0
    assert instance_iou(planted.cells, found.labels) > instance_iou(planted.cells, planted.nuclei) + 0.1
    for k in range(3):
        top = np.argsort(-found.gene_importance[:, k])[:4]
        assert (top % 3 == k).sum() >= 3


def test_continued_run_equals_an_uninterrupted_one_bit_for_bit(planted, tmp_path):
    whole = run(planted)

    class Stop(Exception):
        pass

    def interrupt(record):
        if record["phase"] == "training" and record["done"] == 4:
            raise Stop

    # stops in epoch 4, after the checkpoint of epoch 3: the gate of epoch 3 must come back too
    with pytest.raises(Stop):
        run(planted, checkpoint_dir=tmp_path, on_progress=interrupt)
    with np.load(tmp_path / "labels.npz") as cache:
        assert cache["instance"].shape == cache["class"].shape == planted.nuclei.shape
        np.testing.assert_array_equal(cache["class"] > 0, cache["instance"] > 0)
    resumed = run(planted, checkpoint_dir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.labels, whole.labels)
    np.testing.assert_array_equal(resumed.molecule_confidence, whole.molecule_confidence)
    np.testing.assert_array_equal(resumed.gene_importance, whole.gene_importance)
    assert resumed.history == whole.history


def test_a_finished_run_goes_on_for_more_epochs(planted, tmp_path):
    run(planted, SMALL.replace(n_rounds=2), checkpoint_dir=tmp_path)
    more = run(planted, checkpoint_dir=tmp_path, resume=True)
    np.testing.assert_array_equal(more.labels, run(planted).labels)


def test_checkpoints_of_other_runs_and_damaged_ones_are_refused(planted, tmp_path):
    short = SMALL.replace(n_rounds=1)
    with pytest.raises(CheckpointError, match="holds no"):
        run(planted, short, checkpoint_dir=tmp_path, resume=True)
    run(planted, short, checkpoint_dir=tmp_path)
    for parameters, seed in ((short, 1), (short.replace(learning_rate=0.1), 0)):
        with pytest.raises(CheckpointError, match="other data"):
            run(planted, parameters, checkpoint_dir=tmp_path, resume=True, random_state=seed)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        run(planted, short, checkpoint_dir=tmp_path, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        run(planted, short, checkpoint_dir=tmp_path / "file")


def test_global_random_state_is_left_alone(planted):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run(planted, SMALL.replace(n_rounds=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_nuclei_without_a_type_get_the_one_that_the_network_sees(planted, trained):
    initial = planted.types.initial.copy()
    initial[[3, 17]] = -1
    types = planted.types.__class__(planted.types.names, initial, planted.types.confidence, planted.types.profiles)
    state = PublishedRun(planted.molecules, planted.nuclei, types, SMALL, fabric=make_fabric("cpu"))
    assert (state._target(Window(0, 0, 96, 96)) == -100)[planted.nuclei == 4].all()
    state.network.load_state_dict(trained.network.state_dict())
    state._type_by_network()
    np.testing.assert_array_equal(state.instance_type[1:], planted.true_type + 1)


def test_the_loss_sees_the_trained_part_alone(planted):
    mask = np.zeros(planted.nuclei.shape, bool)
    mask[:48] = True
    shuffled = planted.molecules.gene.copy()
    below = planted.molecules.yx_px[:, 0] > 80  # out of reach of the mask's patches
    shuffled[below] = np.random.default_rng(0).permutation(shuffled[below])
    other = planted.molecules.__class__(planted.molecules.yx_px, shuffled, planted.molecules.gene_names)
    types = planted.types.__class__(planted.types.names, planted.types.initial, planted.types.confidence, None)
    one, two = (run(planted, SMALL.replace(n_rounds=1), data=d, types=types, trained=mask) for d in (planted.molecules, other))
    assert one.history[0]["loss"] == pytest.approx(two.history[0]["loss"], rel=0.05)
    everywhere = run(planted, SMALL.replace(n_rounds=1), types=types)
    assert abs(everywhere.history[0]["loss"] - one.history[0]["loss"]) > 1e-4
    # labels are updated beyond it all the same
    longer = run(planted, SMALL.replace(n_rounds=30, learning_rate=1e-2, attribution="none"), trained=mask)
    assert (longer.labels != planted.nuclei)[60:].any()


@pytest.mark.parametrize("method", ["closed_form", "optimize", "optimize_pairs", "gradient"])
def test_every_attribution_sees_where_a_type_is(planted, trained, method):
    parameters = SMALL.replace(attribution_steps=10, n_probes=8)
    found = window_attribution(
        method,
        trained.network,
        trained.features,
        Window(16, 16, 64, 64),
        genes=np.arange(12)[:4],
        types=[1, 2, 3],
        parameters=parameters.replace(attribution_grid_px=8 if method == "optimize_pairs" else 1),
        generator=torch.Generator().manual_seed(0),
    )
    assert found.shape == (3, 4, 64, 64)
    assert torch.isfinite(found).all()
    if method == "optimize_pairs":
        # noise is shared by the cells of the grid
        assert (found.reshape(3, 4, 8, 8, 8, 8) == found.reshape(3, 4, 8, 8, 8, 8)[:, :, :, :1, :, :1]).all()


def test_closed_form_ranks_pixels_as_the_descent_does(trained):
    maps = {}
    for method in ("closed_form", "optimize"):
        parameters = SMALL.replace(attribution_steps=60, attribution_draws=16, attribution_budget=1e9, n_probes=64, attribution_lr=0.1)
        maps[method] = window_attribution(
            method,
            trained.network,
            trained.features,
            Window(16, 16, 32, 32),
            genes=np.arange(12),
            types=[1, 2],
            parameters=parameters.replace(attribution_grid_px=4),
            generator=torch.Generator().manual_seed(0),
        ).sum(1)
    for a, b in zip(maps["closed_form"], maps["optimize"], strict=True):
        assert stats.spearmanr(a[::4, ::4].ravel(), b[::4, ::4].ravel())[0] > 0.7


def test_the_gate_holds_between_two_attributions(planted):
    parameters = SMALL.replace(attribution_epoch=30, attribution_interval=100, learning_rate=1e-2, max_gap_px=0)
    state = PublishedRun(planted.molecules, planted.nuclei, planted.types, parameters, fabric=make_fabric("cpu"))
    for _ in range(35):
        state.train_epoch()
    gate = np.unpackbits(state.gate, axis=0, count=3).astype(bool)
    outside = (state.labels > 0) & (planted.nuclei == 0)
    assert outside.any()
    passed = np.take_along_axis(gate, state.instance_type[state.labels][None] - 1, 0)[0]
    # what did not pass are filled holes
    for i in np.unique(state.labels[outside & ~passed]):
        own = state.labels == i
        assert ndimage.binary_fill_holes(own & (passed | (planted.nuclei == i)))[own].all()
    ungated = PublishedRun(
        planted.molecules, planted.nuclei, planted.types, parameters.replace(attribution="none"), fabric=make_fabric("cpu")
    )
    for _ in range(35):
        ungated.train_epoch()
    assert (state.labels > 0).sum() < (ungated.labels > 0).sum()


def test_types_and_genes_for_the_attribution_can_be_limited(planted, trained):
    counts = np.bincount(planted.types.initial)
    rare = np.argsort(counts)[:2]
    gate = tissue_gate(
        trained.network,
        trained.features,
        trained.labels,
        trained.instance_type,
        SMALL.replace(attribution_types=1, attribution_genes=2),
        abundance=trained.abundance,
        rng=np.random.default_rng(0),
    )
    passing = np.unpackbits(gate, axis=0, count=3).astype(bool)
    # the one type has no rival, and the others are not held back
    assert passing[rare].all()
    assert passing.all()


@pytest.mark.parametrize("method", ["closed_form", "gradient"])
def test_steep_logits_do_not_make_a_type_dominate(trained, method):
    class Steeper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = trained.network.embedding

        def forward(self, maps):
            return trained.network(maps) * torch.tensor([1.0, 1.0, 20.0, 1.0]).view(1, -1, 1, 1)

    gates = [
        tissue_gate(
            network,
            trained.features,
            trained.labels,
            trained.instance_type,
            SMALL.replace(attribution=method),
            abundance=trained.abundance,
            rng=np.random.default_rng(0),
        )
        for network in (trained.network, Steeper())
    ]
    assert (gates[0] == gates[1]).mean() > 0.99
    passing = np.unpackbits(gates[0], axis=0, count=3).astype(bool)
    assert passing.any(axis=(1, 2)).all()


def test_molecules_are_drawn_from_densities(planted):
    dense = densities(planted, 1.0)
    channels = as_channels(dense, planted.molecules.gene_names)
    drawn = sample_molecules(channels, np.random.default_rng(0))
    again = sample_molecules(channels, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.yx_px, again.yx_px)
    expected = dense.sum((1, 2))
    counts = np.bincount(drawn.gene, minlength=len(expected))
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    pixel = drawn.yx_px.astype(int)
    assert (dense[drawn.gene, pixel[:, 0], pixel[:, 1]] > 0).all()
    histogram, _, _ = np.histogram2d(*drawn.yx_px.T, bins=12, range=((0, 96), (0, 96)))
    block = dense.sum(0).reshape(12, 8, 12, 8).sum((1, 3))
    assert 0.7 < ((histogram - block) ** 2 / block).mean() < 1.3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attribution", "captum"),
        ("n_rounds", 0),
        ("attribution_types", -1),
        ("learning_rate", 0.0),
        ("attribution_budget", 1.0),
        ("attribution_grid_px", 7),
        ("attribution_gate", "votes"),
        ("channels_px", 3),
    ],
)
def test_knobs_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        SMALL.replace(**{name: value})
