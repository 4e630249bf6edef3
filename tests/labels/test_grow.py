"""Growth against a heap, and the properties that its users rely on."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sjg.core import InputError
from sjg.labels import fill_holes, grow
from sjg.labels._grow import background_wins

STEPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
F = np.float32


def heap_growth(nuclei, instance_type, log_posterior, type_weight, step_cost=1.0, max_distance_px=None):
    """Dijkstra on the joint frontier with a heap, one pixel at a time; before holes are filled."""
    height, width = nuclei.shape
    any_type = np.logaddexp.reduce(log_posterior[1:].astype(np.float64), axis=0)
    blocked = log_posterior[0] > any_type + 1e-5
    ids = np.unique(nuclei[nuclei > 0])
    members = {i: np.argwhere(nuclei == i) for i in ids}
    first = {i: tuple(m[0]) for i, m in members.items()}
    labels, cost = np.zeros_like(nuclei), np.full(nuclei.shape, np.inf, F)
    heap = []

    def offer(y, x, i, d, length):
        for dy, dx in STEPS:
            v, u = y + dy, x + dx
            if not (0 <= v < height and 0 <= u < width) or labels[v, u] or nuclei[v, u] or blocked[v, u]:
                continue
            step = F(np.sqrt(2.0)) if dy and dx else F(1)
            nll = -min(F(0), F(log_posterior[instance_type[i], v, u]))
            factor = F(1) if type_weight == 0 else F(F(nll * F(type_weight)) + F(1))
            new, far = F(d + F(factor * F(step * F(step_cost)))), F(length + step)
            if np.isinf(new) or (max_distance_px is not None and far > max_distance_px + 1e-3):
                continue
            cy, cx = members[i].mean(axis=0)
            near = round((v - cy) ** 2 + (u - cx) ** 2, 6)
            heapq.heappush(heap, (new, nll, near, first[i], far, v, u, i))

    for i in ids:
        for y, x in members[i]:
            labels[y, x], cost[y, x] = i, 0
    for i in ids:
        for y, x in members[i]:
            offer(y, x, i, F(0), F(0))
    while heap:
        d, _, _, _, length, y, x, i = heapq.heappop(heap)
        if not labels[y, x]:
            labels[y, x], cost[y, x] = i, d
            offer(y, x, i, d, length)
    return labels, cost


def tissue(seed, shape, n, n_types, *, sharpness=2.0, blur=1.5, background=0.0):
    rng = np.random.default_rng(seed)
    nuclei = np.zeros(shape, int)
    for i in rng.permutation(n) + 1:  # overlapping ones overwrite each other
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        nuclei[y : y + rng.integers(1, 4), x : x + rng.integers(1, 4)] = i
    instance_type = np.concatenate([[0], rng.integers(1, n_types + 1, n)])
    score = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), blur) for _ in range(n_types + 1)])
    score *= sharpness / max(score.std(), 1e-9)
    score[0] += background
    posterior = score - np.logaddexp.reduce(score, axis=0)
    return nuclei, instance_type, posterior.astype(np.float32)


cases = st.builds(
    tissue,
    st.integers(0, 10_000),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.integers(1, 12),
    st.integers(1, 4),
    sharpness=st.sampled_from([0.5, 2.0, 30.0]),
    background=st.sampled_from([-3.0, 0.0, 1.5]),
)
weights = st.sampled_from([0.0, 0.5, 2.0])


@given(cases, weights, st.sampled_from([0.3, 1.0]), st.sampled_from([None, 0, 2, 5.5]))
def test_equals_the_heap(case, weight, step_cost, limit):
    labels, cost = grow(*case, type_weight=weight, step_cost=step_cost, max_distance_px=limit)
    expected, expected_cost = heap_growth(*case, weight, step_cost, limit)
    np.testing.assert_array_equal(labels, fill_holes(expected))
    before_holes = expected > 0
    np.testing.assert_array_equal(cost[before_holes], expected_cost[before_holes])
    np.testing.assert_array_equal(np.isfinite(cost), labels > 0)


def test_equals_the_heap_where_ties_abound():
    rng = np.random.default_rng(0)
    nuclei = np.zeros((30, 30), int)
    nuclei[tuple(rng.integers(0, 30, (2, 20)))] = rng.permutation(20) + 1
    case = nuclei, np.r_[0, np.tile([1, 2], 10)], np.log(np.full((3, 30, 30), 1 / 3, np.float32))
    labels, cost = grow(*case, type_weight=1.0)
    expected, expected_cost = heap_growth(*case, 1.0)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(cost, expected_cost)


def test_a_larger_tissue_equals_the_heap():
    case = tissue(3, (90, 110), 60, 5, sharpness=3.0, blur=3.0, background=0.5)
    labels, _ = grow(*case, type_weight=2.0, max_distance_px=15)
    np.testing.assert_array_equal(labels, fill_holes(heap_growth(*case, 2.0, 1.0, 15)[0]))


@given(cases, weights)
def test_nuclei_never_change_and_cells_hold_together(case, weight):
    nuclei = case[0]
    labels, cost = grow(*case, type_weight=weight)
    np.testing.assert_array_equal(labels[nuclei > 0], nuclei[nuclei > 0])
    assert (cost[nuclei > 0] == 0).all()
    assert set(np.unique(labels)) <= {0, *np.unique(nuclei)}
    for i in np.unique(nuclei[nuclei > 0]):
        pieces, n = ndimage.label(labels == i, np.ones((3, 3)))
        assert set(range(1, n + 1)) <= set(pieces[nuclei == i])


@given(cases, weights, st.randoms(use_true_random=False), st.sampled_from([None, 4]))
def test_relabelling_ids_only_relabels(case, weight, random, limit):
    nuclei, instance_type, posterior = case
    new_ids = list(range(1, len(instance_type)))
    random.shuffle(new_ids)
    new = np.r_[0, new_ids]
    types = np.zeros_like(instance_type)
    types[new] = instance_type
    labels, cost = grow(*case, type_weight=weight, max_distance_px=limit)
    again, cost_again = grow(new[nuclei], types, posterior, type_weight=weight, max_distance_px=limit)
    np.testing.assert_array_equal(new[labels], again)
    np.testing.assert_array_equal(cost, cost_again)


@given(st.integers(0, 10_000), st.integers(1, 24), st.integers(1, 24), st.sampled_from([0.5, 2.0]), st.integers(0, 7))
def test_turning_the_tissue_turns_the_result(seed, height, width, weight, turn):
    # a type for each nucleus: two of one type and shape that face each other draw, and then the place in the raster decides
    nuclei, _, posterior = tissue(seed, (height, width), 8, 8)
    instance_type = np.arange(9)

    def turned(a):
        a = np.rot90(a, turn % 4, axes=(-2, -1))
        return np.ascontiguousarray(a[..., ::-1] if turn >= 4 else a)

    labels, cost = grow(nuclei, instance_type, posterior, type_weight=weight)
    again, cost_again = grow(turned(nuclei), instance_type, turned(posterior), type_weight=weight)
    np.testing.assert_array_equal(turned(labels), again)
    np.testing.assert_array_equal(turned(cost), cost_again)


@given(st.integers(0, 10_000), st.integers(2, 24), st.integers(2, 40), st.sampled_from([0.0, 1.0]), st.integers(1, 5))
def test_a_piece_with_a_halo_gives_the_labels_of_the_whole(seed, height, width, weight, limit):
    # no two of a type, hence no draws, which a nucleus cut at the edge of the piece may lose; -log p below 1, to bound the cost
    nuclei, _, posterior = tissue(seed, (height, width), 12, 12)
    instance_type, posterior = np.arange(13), posterior / (1 - posterior)
    labels, _ = grow(nuclei, instance_type, posterior, type_weight=weight, max_distance_px=limit)
    halo = int(np.ceil(limit * (1 + weight)))
    half = width // 2
    ahead = slice(0, half + halo)
    piece, _ = grow(nuclei[:, ahead], instance_type, posterior[:, :, ahead], type_weight=weight, max_distance_px=limit)
    # holes are settled by what encloses them, which may lie beyond the halo
    enclosed = (labels[:, :half] != piece[:, :half]) & ((labels[:, :half] == 0) | (piece[:, :half] == 0))
    np.testing.assert_array_equal(np.where(enclosed, 0, labels[:, :half]), np.where(enclosed, 0, piece[:, :half]))
    before, _ = heap_growth(nuclei, instance_type, posterior, weight, 1.0, limit)
    assert not (enclosed & (before[:, :half] > 0)).any()


@given(cases, st.integers(0, 6))
def test_no_cell_reaches_further_than_asked(case, limit):
    nuclei = case[0]
    posterior = np.concatenate([np.full_like(case[2][:1], -50), case[2][1:]])  # no background, hence no holes to fill
    labels, _ = grow(nuclei, case[1], posterior, type_weight=1.0, max_distance_px=limit)
    for i in np.unique(nuclei[nuclei > 0]):
        away = ndimage.distance_transform_edt(nuclei != i)
        holes = fill_holes(np.where(away <= limit, 1, 0)) == 1
        assert holes[labels == i].all()


def test_one_nucleus_on_even_ground_is_a_disc():
    nuclei = np.zeros((41, 41), np.uint16)
    nuclei[20, 20] = 3
    labels, cost = grow(nuclei, np.array([0, 1, 1, 2]), np.zeros((3, 41, 41)), type_weight=1.0, max_distance_px=10)
    dy, dx = np.abs(np.indices((41, 41)) - 20)
    octile = np.maximum(dy, dx) + (np.sqrt(2) - 1) * np.minimum(dy, dx)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels == 3, octile <= 10)
    np.testing.assert_allclose(cost[labels == 3], octile[labels == 3], rtol=1e-5)


def test_background_takes_what_is_likelier_than_all_types_together():
    nuclei = np.array([[1, 0, 0, 0, 0]])
    p = np.array([[0.0, 0.4, 0.5, 0.51, 0.1], [0.5, 0.3, 0.3, 0.3, 0.3], [0.5, 0.3, 0.2, 0.19, 0.6]])[:, None]
    with np.errstate(divide="ignore"):
        labels, cost = grow(nuclei, np.array([0, 1]), np.log(p), type_weight=1.0)
    # the last pixel is no background, and no path leads there
    np.testing.assert_array_equal(labels, [[1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(np.isinf(cost), [[False, False, False, True, True]])


def test_a_background_speck_inside_a_cell_goes_to_the_cell_and_one_between_cells_stays():
    nuclei = np.zeros((7, 12), int)
    nuclei[3, 1] = 1
    nuclei[3, 10] = 2
    p = np.full((3, 7, 12), 0.05)
    p[1] = 0.9
    p[0, 3, 3] = p[0, :, 6] = 0.95
    p[1, 3, 3] = p[1, :, 6] = 0.04
    labels, cost = grow(nuclei, np.array([0, 1, 1]), np.log(p / p.sum(0)), type_weight=1.0)
    assert labels[3, 3] == 1
    assert np.isfinite(cost[3, 3])
    assert cost[3, 3] > cost[3, 2]
    assert (labels[:, 6] == 0).all()
    assert (labels[:, :6] == 1).all()
    assert (labels[:, 7:] == 2).all()


def test_type_decides_between_two_cells():
    nuclei = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0, 2]])
    p = np.full((3, 1, 10), 0.01)
    p[1, 0, :7], p[2, 0, 7:] = 0.98, 0.98  # the border of the types is not half way
    types = np.array([0, 1, 2])
    np.testing.assert_array_equal(grow(nuclei, types, np.log(p), type_weight=1.0)[0], [[1] * 7 + [2] * 3])
    np.testing.assert_array_equal(grow(nuclei, types, np.log(p), type_weight=0.0)[0], [[1] * 5 + [2] * 5])


def test_peaked_posteriors_and_huge_costs_end():
    nuclei, types, posterior = tissue(1, (40, 40), 8, 3, sharpness=1.0)
    labels, _ = grow(nuclei, types, np.minimum(posterior, -1e7), type_weight=1.0)
    assert (labels > 0).all()


def test_arrays_and_tensors_give_the_same():
    case = tissue(5, (50, 40), 20, 4)
    labels, cost = grow(*case, type_weight=1.0)
    tensors = grow(torch.tensor(case[0], dtype=torch.int32), torch.tensor(case[1]), torch.tensor(case[2]), type_weight=1.0)
    assert tensors[0].dtype == torch.int32
    np.testing.assert_array_equal(labels, tensors[0].numpy())
    np.testing.assert_array_equal(cost, tensors[1].numpy())
    read_only = case[2].copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(labels, grow(case[0], case[1], read_only[:, :, ::1], type_weight=1.0)[0])


#: what `grow` may compute with floating point numbers: IEEE 754 fixes the result to the bit
ARITHMETIC = frozenset({"add", "sub", "mul", "neg", "abs", "div", "pow"})
#: these compare or move numbers and round nothing; which of them torch uses differs between its versions
MOVES = (
    "clamp eq ne lt le gt ge isinf isfinite isnan bitwise_and bitwise_not bitwise_or logical_and logical_not logical_or "
    "min max amin amax minimum maximum argmax argmin any all where masked_fill masked_select "
    "index index_put index_select index_fill gather scatter scatter_reduce select slice slice_scatter cat stack unbind split nonzero take "
    "full full_like zeros zeros_like ones ones_like empty empty_like empty_strided new_empty new_full new_zeros scalar_tensor fill zero copy "
    "_to_copy _local_scalar_dense item lift_fresh lift clone contiguous detach alias as_strided expand permute t transpose flip "
    "view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten constant_pad_nd pad"
)
#: the last bit is the device's choice: in float64 only, see the next test
LIBRARY = frozenset({"logaddexp"})


class OtherDevice(TorchDispatchMode):
    """Refuse what another device may round in another way, and write in another order where places repeat."""

    def __init__(self, seed):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.used, self.repeated = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        floats = {t.dtype for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.dtype.is_floating_point}
        if floats:  # whole numbers have no rounding
            self.used.add(name)
            assert name in {*ARITHMETIC, *MOVES.split(), *LIBRARY}, f"{func} is not known to round alike everywhere"
            assert name not in LIBRARY or floats == {torch.float64}, f"{func} of {floats}"
            if name == "pow":
                assert args[1] == 2  # a square
            if name == "div":  # by a number a GPU multiplies with its reciprocal
                assert getattr(args[1], "ndim", 0) > 0
            if name in ("add", "sub"):
                assert kwargs.get("alpha", 1) == 1
            if name == "scatter_reduce":
                assert args[4] in ("amin", "amax")
        if name == "index_put":
            assert not (floats and len(args) > 3 and args[3])  # sums in any order
            if args[2].ndim and args[1][0].numel() > 1:  # a value for each of several places
                (place,), values = args[1], args[2]
                assert len(place) == len(values)
                order = torch.randperm(len(place), generator=self.generator)
                self.repeated += len(place) - len(torch.unique(place))
                args = (args[0], [place[order]], values[order], *args[3:])
        return func(*args, **kwargs)


@pytest.mark.parametrize("seed", range(3))
def test_the_result_hangs_on_nothing_that_a_device_is_free_to_choose(seed):
    """Equal results on CPU and GPU, seen without one: each operation is exact, and threads may write in any order."""
    case = [torch.from_numpy(a) for a in tissue(seed, (90, 110), 60, 5, sharpness=4.0, blur=3.0)]
    plain = grow(*case, type_weight=2.0, max_distance_px=25)
    with OtherDevice(seed) as device:
        other = grow(*case, type_weight=2.0, max_distance_px=25)
    assert torch.equal(plain[0], other[0])
    assert torch.equal(plain[1], other[1])
    assert device.repeated > 100  # places that several pixels sign at once
    assert {"add", "mul", "index_put", "scatter_reduce", "logaddexp"} <= device.used


@pytest.mark.parametrize(
    "sloppy",
    [
        lambda x: x.exp(),
        lambda x: x.sum(),
        lambda x: x / 3.0,
        lambda x: x**0.3,
        lambda x: x.add(x, alpha=0.3),
        lambda x: torch.logaddexp(x, x),
        lambda x: torch.zeros(2).index_add_(0, torch.tensor([0, 0, 1]), x),
        lambda x: torch.zeros(2).scatter_reduce_(0, torch.tensor([0, 0, 1]), x, "sum"),
        lambda x: torch.zeros(2).index_put_((torch.tensor([0, 0, 1]),), x, accumulate=True),
    ],
)
def test_that_check_refuses_what_devices_round_in_their_own_way(sloppy):
    with OtherDevice(0), pytest.raises(AssertionError):
        sloppy(torch.rand(3))


class OtherLibrary(TorchDispatchMode):
    """A device whose exponentials end one bit lower or higher."""

    def __init__(self, toward):
        super().__init__()
        self.toward = toward

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        return torch.nextafter(out, torch.full_like(out, self.toward)) if "logaddexp" in str(func) else out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_last_bits_of_an_exponential_move_no_pixel(monkeypatch, dtype):
    posterior = torch.from_numpy(tissue(4, (100, 100), 9, 6, sharpness=3.0)[2])
    any_type = torch.logsumexp(posterior[1:].double(), 0)
    posterior[0] = torch.where(any_type < -0.01, any_type + 1e-5, posterior[0].double()).float()  # at the very edge of a win
    if dtype == torch.float32:  # what it would be without float64, which shows that this test can fail
        monkeypatch.setattr("sjg.labels._grow._NO_FLOAT64", ("cpu",))
    wins = background_wins(posterior)
    for toward in (-torch.inf, torch.inf):
        with OtherLibrary(toward):
            assert torch.equal(background_wins(posterior), wins) == (dtype == torch.float64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_equals_cpu():
    case = [torch.from_numpy(a) for a in tissue(6, (200, 200), 80, 6, sharpness=4.0, blur=3.0)]
    labels, cost = grow(*case, type_weight=2.0, max_distance_px=25)
    on_gpu = grow(*(a.cuda() for a in case), type_weight=2.0, max_distance_px=25)
    assert on_gpu[0].is_cuda
    assert torch.equal(labels, on_gpu[0].cpu())
    assert torch.equal(cost, on_gpu[1].cpu())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nuclei": np.zeros((4, 5))}, "give integers"),
        ({"nuclei": np.full((4, 5), -1)}, "ids from -1"),
        ({"nuclei": np.full((4, 5), 3)}, "ids from 3 to 3"),
        ({"instance_type": np.array([0, 1, 4])}, "nucleus 2 is 4"),
        ({"instance_type": np.array([0, 1, 0])}, "nucleus 2 is 0"),
        ({"log_posterior": np.zeros((3, 5, 4))}, "do not fit"),
        ({"log_posterior": np.zeros((3, 4, 5), int)}, "floating point"),
        ({"log_posterior": np.full((3, 4, 5), np.nan)}, "NaN"),
        ({"log_posterior": np.full((3, 4, 5), 0.7)}, "log_softmax"),
        ({"type_weight": -1.0}, "type_weight"),
        ({"step_cost": 0.0}, "step_cost"),
        ({"max_distance_px": -2}, "max_distance_px"),
    ],
)
def test_unusable_input_is_refused(change, message):
    nuclei = np.zeros((4, 5), int)
    nuclei[0, 0], nuclei[3, 4] = 1, 2
    given_ = {"nuclei": nuclei, "instance_type": np.array([0, 1, 2]), "log_posterior": np.full((3, 4, 5), -1.0), "type_weight": 1.0}
    with pytest.raises(InputError, match=message):
        grow(**(given_ | change))
