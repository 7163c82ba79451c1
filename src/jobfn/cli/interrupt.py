"""Ctrl-C while modules are imported, and at a question."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from jobfn.cli.exit_codes import INTERRUPTED


@contextlib.contextmanager
def exit_at_ctrl_c() -> Iterator[None]:
    """End the process at once at Ctrl-C, for the duration of the block.

    During an import, Python's KeyboardInterrupt is a traceback, or is lost in a callback of the import system.
    """
    with _handler(lambda *_: os._exit(INTERRUPTED)):
        yield


@contextlib.contextmanager
def ctrl_c_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt at Ctrl-C, for the duration of the block.

    In an event loop, asyncio cancels its task instead, which cannot interrupt a question that blocks.
    """
    with _handler(signal.default_int_handler):
        yield


@contextlib.contextmanager
def _handler(handler: Callable[..., object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield
        return
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
