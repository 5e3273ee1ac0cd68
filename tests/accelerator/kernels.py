"""CUDA kernels compiled for the CPU and run there, one block after the other, for the pretend accelerator.

The threads of a block are threads of the CPU, so a block of 256 would be slow: unless a test asks for more, there is
one, and it does the work of all, as a kernel whose loops go in steps of the grid does.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import threading
from pathlib import Path

__all__ = ["HostKernel"]

# What NVRTC knows by itself. Shared memory is static, for one block runs at a time.
PRELUDE = """
#include <pthread.h>
struct Place { int x; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static thread_local Place threadIdx, blockIdx, blockDim, gridDim;
static pthread_barrier_t barrier;
#define __device__
#define __global__ __attribute__((visibility("default")))
#define __shared__ static
static void __syncthreads() { if (blockDim.x > 1) pthread_barrier_wait(&barrier); }
static void __threadfence() { __sync_synchronize(); }
static unsigned atomicInc(unsigned *at, unsigned most) {
    unsigned old = *at;
    *at = old >= most ? 0 : old + 1;
    return old;
}
extern "C" void begin_block(int threads) { pthread_barrier_init(&barrier, nullptr, threads); }
extern "C" void stand(int thread, int threads, int block, int blocks) {
    threadIdx.x = thread; blockDim.x = threads; blockIdx.x = block; gridDim.x = blocks;
}
"""


class HostKernel:
    """A kernel as ``torch.cuda._compile_kernel`` returns it, called in the same way."""

    threads = 1  # in a block, whatever is asked for

    def __init__(self, source: str, name: str, folder: Path, compiler: str) -> None:
        stamp = hashlib.sha256((PRELUDE + source).encode()).hexdigest()[:16]
        library = folder / f"kernels-{stamp}.so"
        if not library.exists():
            whole = folder / f"kernels-{stamp}-{threading.get_native_id()}"
            whole.with_suffix(".cpp").write_text(PRELUDE + source)
            command = [compiler, "-std=c++17", "-O2", "-w", "-shared", "-fPIC", "-pthread", "-ffp-contract=off"]
            subprocess.run([*command, str(whole.with_suffix(".cpp")), "-o", str(whole)], check=True)
            whole.rename(library)  # which another process may have done meanwhile: it is the same
        self._library = ctypes.CDLL(str(library))
        self._kernel = self._library[name]
        self._kernel.restype = None

    def __call__(self, grid: tuple[int, int, int], block: tuple[int, int, int], args: list) -> None:
        """Run all blocks."""
        import torch  # noqa: PLC0415

        assert block[0] <= 1024
        assert all(not isinstance(arg, torch.Tensor) or arg.device.type == "pretend" for arg in args)
        torch.ops.pretend.note_launch("kernel")
        given = [
            ctypes.c_void_p(arg.data_ptr()) if isinstance(arg, torch.Tensor) else ctypes.c_int(arg) for arg in args
        ]
        threads = min(self.threads, block[0])
        for index in range(grid[0]):
            self._library.begin_block(threads)
            if threads == 1:
                self._run((0, 1, index, grid[0]), given)
                continue
            places = [(thread, threads, index, grid[0]) for thread in range(threads)]
            running = [threading.Thread(target=self._run, args=(place, given)) for place in places]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()

    def _run(self, place: tuple[int, ...], given: list) -> None:
        self._library.stand(*place)
        self._kernel(*given)
