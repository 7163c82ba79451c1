"""A small disk that PostgreSQL's user can reach, and that fills up. Root may mount it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(name: str, *, megabytes: int) -> Iterator[Path]:
    """Mount a disk while the block runs, or skip the test. Returns its folder."""
    disk = Path("/var/tmp") / f"jobfn-{name}-{os.getpid()}"  # noqa: S108  - the folder of the test is root's
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        disk.rmdir()
        pytest.skip(f"a tmpfs cannot be mounted, which root may: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)  # noqa: S607
        disk.rmdir()


def fill_disk(disk: Path) -> Path:
    """Fill a disk. Returns the file to delete."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return ballast
