"""Ctrl-C while modules are imported."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from jobfn.cli.exit_codes import INTERRUPTED


@contextlib.contextmanager
def exit_at_ctrl_c() -> Iterator[None]:
    """End the process at once at Ctrl-C, for the duration of the block.

    During an import, Python's KeyboardInterrupt is a traceback, or is lost in a callback of the import system.
    """
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
