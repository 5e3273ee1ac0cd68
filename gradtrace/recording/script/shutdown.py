"""Shutdown of a script as its threads see it: the main thread is over, and they are waited for."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["script_shutdown"]


@contextlib.contextmanager
def script_shutdown() -> Iterator[Callable[[], None]]:
    """Give what ends the script: from then on its main thread counts as ended, and its threads are waited for.

    The real main thread goes on, to draw; a thread that runs until it has ended would run for ever.
    """
    ended = threading.Event()
    main: Any = threading.main_thread()
    main.join, main.is_alive = lambda timeout=None: ended.wait(timeout) and None, lambda: not ended.is_set()

    def end() -> None:
        ended.set()
        with contextlib.suppress(KeyboardInterrupt):
            _wait()

    try:
        yield end
    finally:
        del main.join, main.is_alive


def _wait() -> None:
    """Wait for the threads that python waits for when it ends."""
    pools = sys.modules.get("concurrent.futures.thread")
    for thread in list(pools._threads_queues) if pools else ():
        executor = thread._args[0]() if getattr(thread, "_args", None) else None
        if executor is not None:
            executor.shutdown()
    for thread in threading.enumerate():
        if thread not in {threading.main_thread(), threading.current_thread()} and not thread.daemon:
            thread.join()
