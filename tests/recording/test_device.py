"""On a device that Python can't read: the same numbers, nothing waits, few kernels, and nothing lost when it fails.

The device is the pretend accelerator of ``tests/accelerator``; ``test_cuda.py`` is for a real one.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradtrace.recording.stats import device as device_stats
from gradtrace.recording.stats import device_kernel
from gradtrace.recording.stats.measure import measure
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import to_stats
from tests.accelerator import counting
from tests.accelerator.kernels import HostKernel

pytestmark = pytest.mark.usefixtures("pretend")


def moved(tensor):
    """Return a tensor on the device with the same elements, strides included."""
    if 0 in tensor.stride():
        first = tensor[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())]
        return first.to("pretend").expand(tensor.shape)
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="pretend").copy_(tensor)


def assert_same(tensor):
    """Check that a tensor has the numbers on the device that it has here."""
    here, there = to_stats(measure(tensor)), to_stats(measure(moved(tensor)))
    assert_equal(here, there)


def assert_equal(here, there):
    assert (here.shape, here.dtype, here.nan, here.inf) == (there.shape, there.dtype, there.nan, there.inf)
    assert (here.min, here.max, here.values) == (there.min, there.max, there.values)
    assert here.zeros == pytest.approx(there.zeros, abs=1e-12)
    for one, other in ((here.norm, there.norm), (here.mean, there.mean)):
        assert (one is None) == (other is None)
        if one is not None:
            assert one == pytest.approx(other, rel=4e-6, abs=1e-7 * max(abs(here.max or 0), abs(here.min or 0)))


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SHAPES = [(), (0,), (3, 0), (5,), (4, 4), (17,), (3, 50), (40, 7, 2), (70_001,)]


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_dtype_and_shape_has_the_numbers_it_has_here(dtype, shape, threads, monkeypatch):
    monkeypatch.setattr(HostKernel, "threads", threads)
    torch.manual_seed(0)
    assert_same(torch.randn(shape).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [[math.nan], [math.inf], [-math.inf, math.nan, math.nan, 0.0]])
@pytest.mark.parametrize("sign", [1, -1, None])
def test_what_is_not_finite_is_counted_and_left_out(dtype, bad, sign):
    torch.manual_seed(0)
    tensor = torch.randn(60).to(dtype)
    tensor = tensor if sign is None else tensor.abs().add(1) * sign
    tensor[: len(bad)] = torch.tensor(bad)
    assert_same(tensor)
    assert_same(torch.full((40,), bad[0], dtype=dtype))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_squares_that_leave_the_range_of_float64_do_not_spoil_the_norm(scale):
    torch.manual_seed(0)
    assert_same(torch.rand(50, dtype=torch.float64) * scale)


def test_each_half_number_is_read_as_it_is():
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for part in bits.view(torch.float16).split(64):
        assert_same(part.clone())


def test_views_of_all_kinds_have_the_numbers_they_have_here():
    torch.manual_seed(0)
    base, here = torch.randn(12, 10), torch.randn(30, dtype=torch.cfloat)
    there = base.to("pretend"), here.to("pretend")
    for view in (
        lambda t, _: t.t(), lambda t, _: t[:, 1:7], lambda t, _: t[::2], lambda t, _: t[:1].expand(12, 10),
        lambda t, _: t[:, :1].expand(12, 10), lambda t, _: t.unsqueeze(1), lambda t, _: t[:2, :3].t(),
        lambda t, _: t[0, :1].expand(20), lambda t, _: t[:1, :1].expand(0, 1), lambda _, c: c.imag,
        lambda _, c: c.conj().imag, lambda t, _: t.view(-1)[3:], lambda t, _: t._neg_view(),
    ):  # fmt: skip
        assert_equal(to_stats(measure(view(base, here))), to_stats(measure(view(*there))))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(width=32), min_size=0, max_size=40), st.sampled_from([torch.float32, torch.float64]))
def test_any_floats_have_the_numbers_they_have_here(values, dtype):
    assert_same(torch.tensor(values, dtype=dtype))


def test_a_sum_is_the_same_each_time_however_many_blocks_there_are():
    tensor = torch.randn(2**20, device="pretend")
    assert len({to_stats(measure(tensor)) for _ in range(3)}) == 1


def test_a_size_beyond_32_bits_is_handed_over_whole(monkeypatch):
    kernel, size, taken = device_kernel.kernel_for(torch.device("pretend:0"), torch.float32), 5 * 2**30 + 7, []
    monkeypatch.setattr(HostKernel, "__call__", lambda _self, grid, _block, args: taken.append((grid, args)))
    kernel(SimpleNamespace(numel=lambda: size), None, 3, None)
    [(grid, (_, _, row, high, low, _))] = taken
    assert (grid, row, (high << 30) + low) == ((device_kernel.BLOCKS, 1, 1), 3, size)
    assert low < 2**30


@pytest.fixture
def without_kernel(monkeypatch):
    """Let the device have no compiler, as most devices that are not CUDA's."""
    monkeypatch.setattr(device_stats, "kernel_for", lambda *_: None)


@pytest.mark.usefixtures("without_kernel")
@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_compiler_torchs_own_four_kernels_find_the_same(dtype):
    torch.manual_seed(0)
    for tensor in (torch.randn(60), torch.relu(torch.randn(40, 7)), torch.randn(30, 50).t(), torch.zeros(20)):
        on_device = moved(tensor.to(dtype))
        with counting() as counts:
            measured = measure(on_device)
        assert (counts[0].waits, counts[0].launches) <= (0, 5)  # four, and one in the CPU's stead for aminmax
        assert_equal(to_stats(measure(tensor.to(dtype))), to_stats(measured))


@pytest.mark.usefixtures("without_kernel")
@pytest.mark.parametrize(("bad", "nan", "inf"), [(math.nan, 1, 0), (math.inf, 0, 1), (-math.inf, 0, 1)])
def test_without_a_compiler_what_is_not_finite_is_said_to_be(bad, nan, inf):
    tensor = torch.ones(40, device="pretend")
    tensor[3:6] = bad
    stats = to_stats(measure(tensor))
    assert (stats.nan, stats.inf, stats.norm) == (nan, inf, None)
    assert "not counted" in stats.note


@pytest.mark.parametrize(("shape", "most"), [((), 1), ((4, 4), 1), ((500,), 1), ((512, 256), 1), ((2**21,), 1)])
def test_a_gradient_costs_one_kernel_and_no_memory(shape, most):
    tensor = torch.ones(shape, device="pretend")
    kept = [measure(tensor)]  # the rows of the stream are made
    with counting() as counts:
        kept += [measure(tensor) for _ in range(64)]
    assert (counts[0].waits, counts[0].launches, counts[0].allocations) == (0, 64 * most, 0)
    assert len({str(to_stats(one)) for one in kept}) == 1


def test_a_view_with_holes_costs_a_copy_and_a_kernel():
    tensor = torch.ones(40, 50, device="pretend")[:, 1:7]
    measure(tensor)
    with counting() as counts:
        measure(tensor)
    assert (counts[0].waits, counts[0].launches) == (0, 2)


def test_more_than_all_rows_are_sent_as_they_fill_and_none_is_overwritten(monkeypatch):
    monkeypatch.setattr(device_stats, "_ROWS", 8)
    monkeypatch.setattr(device_stats, "_open", {})
    tensors = [torch.full((50,), float(k), device="pretend") for k in range(30)]
    with counting() as counts:
        kept = [measure(tensor) for tensor in tensors]
    assert (counts[0].waits, counts[0].allocations) == (0, 2)
    assert [to_stats(one).mean for one in kept] == list(range(30))


def test_what_is_read_early_is_waited_for_and_what_is_read_at_once_is_right(pretend):
    kept = [measure(torch.full((50,), float(k), device="pretend")) for k in range(3)]
    pretend.set("lag", 4)  # so often the device answers that it is not ready
    assert [to_stats(one).mean for one in kept] == [0, 1, 2]


def test_streams_and_devices_have_rows_of_their_own():
    kept = []
    for device in ("pretend:0", "pretend:1"):
        for stream in (torch.Stream(device=device), torch.Stream(device=device)):
            with stream:
                kept.append(measure(torch.full((50,), float(len(kept)), device=device)))
    reduce_pending(kept)
    assert [(stats.device, stats.mean) for stats in map(to_stats, kept)] == [
        ("pretend:0", 0), ("pretend:0", 1), ("pretend:1", 2), ("pretend:1", 3),
    ]  # fmt: skip
    assert torch.accelerator.current_device_index() == 0


def test_a_tensor_that_changes_later_has_the_numbers_it_had():
    tensor = torch.full((50,), 2.0, device="pretend")
    measured = measure(tensor)
    tensor.zero_()
    assert (to_stats(measured).max, to_stats(measure(tensor)).max) == (2, 0)


def test_memory_that_was_freed_is_not_read():
    for size in (4, 1000):
        tensor = torch.ones(size, device="pretend")
        tensor.untyped_storage().resize_(0)
        assert "no numbers" in to_stats(measure(tensor)).note


@pytest.mark.parametrize("make", [lambda: torch.randn(5, dtype=torch.cfloat), lambda: torch.arange(50)])
def test_other_kinds_have_a_note_rather_than_make_anyone_wait(make):
    tensor = make().to("pretend")
    with counting() as counts:
        stats = to_stats(measure(tensor))
    assert counts[0].waits == 0
    assert stats.note.endswith("no numbers for this kind")


def test_nothing_is_put_into_a_graph_that_is_captured(pretend):
    tensors = [torch.ones(3, device="pretend"), torch.ones(40, 50, device="pretend")[:, 1:7]]
    pretend.set("capturing", 1)
    with counting() as counts, torch.Stream(device="pretend"):
        kept = [measure(tensor) for tensor in tensors]
    assert (counts[0].launches, counts[0].allocations) == (0, 0)
    assert all("captured" in to_stats(one).note for one in kept)


@pytest.fixture
def giving_up(monkeypatch):
    """Forget afterwards that measuring was given up, which is for the process."""
    monkeypatch.setattr(device_stats, "_gave_up", "")
    monkeypatch.setattr(device_stats, "_open", {})


@pytest.mark.usefixtures("giving_up")
def test_where_memory_runs_out_measuring_is_given_up_and_says_so(pretend):
    tensor = torch.ones(1000, device="pretend")
    pretend.set("limit", 1000)
    for _ in range(2):
        stats = to_stats(measure(tensor))
        assert stats.note == "not measured: the memory of the device is full"
        assert (stats.shape, stats.norm) == ((1000,), None)
        pretend.set("limit", -1)  # it has memory again, and is left alone all the same


def test_the_slow_way_of_watched_calls_gives_the_same(pretend):
    tensor = torch.arange(40.0, device="pretend")
    with torch.device("pretend"), counting() as counts:
        measured = measure(tensor)
    assert (counts[0].waits, counts[0].launches) == (0, 1)
    assert to_stats(measured).max == 39
