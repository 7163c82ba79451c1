"""The commands that install jobfn, for errors about missing extras. The documentation has the same lines (a test)."""

import shlex
from pathlib import Path

#: Where pip finds jobfn, since no package index has it: `` @ URL``. Empty once it is published.
SOURCE = " @ git+https://github.com/constructive-io/jobfn"


def install_command(extra: str) -> str:
    """Return the shell command that installs jobfn with an extra."""
    return f"pip install 'jobfn[{extra}]{SOURCE}'"


def wheel_command(folder: Path) -> str:
    """Return the shell command that puts jobfn's wheel into a folder."""
    return f"pip wheel --no-deps --wheel-dir {shlex.quote(str(folder))} 'jobfn{SOURCE}'"
