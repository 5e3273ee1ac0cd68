"""Shutdown of a script as its threads see it: the main thread has ended, and python waits for the others."""

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
    """Return a function that ends the script: its main thread then counts as ended, and its threads are waited for.

    The real main thread continues, to draw; a thread that runs until it has ended would otherwise run forever.
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
    """Wait for the threads that python waits for at its end."""
    pools = sys.modules.get("concurrent.futures.thread")
    for thread in list(pools._threads_queues) if pools else ():
        executor = thread._args[0]() if getattr(thread, "_args", None) else None
        if executor is not None:
            executor.shutdown()
    for thread in threading.enumerate():
        if thread not in {threading.main_thread(), threading.current_thread()} and not thread.daemon:
            thread.join()
