"""Device kernel that reads a tensor once and writes all its reductions into a row: native/reduce.cu.

Torch compiles it, with the runtime compiler included in its wheels for CUDA and ROCm. That API is private, so every
call is guarded: on a device without it, or where it fails, torch's own reductions are used (device.py).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.stats.reductions import Sums

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["BLOCKS", "WIDTH", "Kernel", "kernel_for", "sums_of_row"]

Kernel = Callable[..., None]

WIDTH = 16  # numbers in a row, as in reduce.cu
BLOCKS = 512  # maximum; each writes a row, and the last one combines them
_THREADS = 256
# Elements that one thread reads, unless there are more than all blocks can share.
_EACH = 32


@cache
def kernel_for(device: torch.device, dtype: torch.dtype) -> Kernel | None:
    """Return a function that starts the kernel on the current stream of a device, None without a compiler.

    It takes a one-dimensional tensor, the rows, the row to write, and rows of scratch memory, initially zero.
    """
    compile_kernel = getattr(torch.get_device_module(device), "_compile_kernel", None)
    if compile_kernel is None:
        return None
    source = files("gradtrace.recording.native").joinpath("reduce.cu").read_text(encoding="utf-8")
    try:
        with torch.accelerator.device_index(device.index), _any_cuda_home():
            compiled = compile_kernel(source, "reduce_" + str(dtype).removeprefix("torch."))
    except Exception:  # noqa: BLE001 - a private function, with a library and a driver that may be missing
        return None

    launch = _Launch(compiled) if hasattr(compiled, "func") else compiled

    def start(flat: torch.Tensor, rows: torch.Tensor, row: int, scratch: torch.Tensor) -> None:
        high, low = divmod(flat.numel(), 2**30)
        blocks = min(BLOCKS, math.ceil(flat.numel() / (_THREADS * _EACH)))
        args = [flat, rows, row, high, low, scratch]
        if torch.accelerator.current_device_index() == device.index:
            launch((blocks, 1, 1), (_THREADS, 1, 1), args)
            return
        with torch.accelerator.device_index(device.index):
            launch((blocks, 1, 1), (_THREADS, 1, 1), args)

    return start


class _Launch:
    """Starts a compiled kernel on the current stream; not for several threads at once.

    Torch's own call takes 30 to 100 µs more, since it defines a class each time.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel  # keeps the function loaded
        driver = torch.cuda._utils._get_gpu_runtime_library()
        number, address = ctypes.c_uint, ctypes.c_void_p
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, address, *[number] * 7, address, address, address)
        self._launch = prototype(ctypes.cast(driver.cuLaunchKernel, address).value or 0)
        self._values: list[Any] = [address(), address(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), address()]
        self._pointers = (address * len(self._values))(*map(ctypes.addressof, self._values))

    def __call__(self, grid: tuple[int, int, int], block: tuple[int, int, int], args: list[Any]) -> None:
        """Start the kernel; raises RuntimeError."""
        for value, arg in zip(self._values, args, strict=True):
            value.value = arg if type(arg) is int else arg.data_ptr()
        stream = torch._C._cuda_getCurrentRawStream(args[0].device.index)
        failed = self._launch(self._kernel.func, *grid, *block, 0, stream, self._pointers, None)
        if failed:
            raise RuntimeError(f"a kernel could not be started: error {failed} of the driver")


@contextmanager
def _any_cuda_home() -> Iterator[None]:
    """Let torch's compiler work without the headers of an installed CUDA, which it looks for but does not need here."""
    import torch.utils.cpp_extension as extension  # noqa: PLC0415 - 0.2 s, which nobody without a GPU should wait

    home, extension.CUDA_HOME = extension.CUDA_HOME, extension.CUDA_HOME or ""
    try:
        yield
    finally:
        extension.CUDA_HOME = home


def sums_of_row(size: int, repeats: int, row: Sequence[float]) -> Sums:
    """Return the reductions of ``size`` elements, counted ``repeats`` times each, from a row of the kernel."""
    low, high, total, squares, big, small, nonzero, nan, inf = row[:9]
    # Squares beyond the range of float64 were computed from elements scaled by 1e-200, or by 1e200.
    norm = math.hypot(math.sqrt(squares), math.sqrt(big) * 1e200, math.sqrt(small) * 1e-200)
    broken = int(nan + inf)
    return Sums(size - broken, repeats, low, high, total, norm, int(nonzero) + broken, int(nan), int(inf))
