"""The command that installs jobfn, for errors about missing extras. The documentation has the same lines (a test)."""

#: Where pip finds jobfn, since no package index has it: `` @ URL``. Empty once it is published.
SOURCE = " @ git+https://github.com/constructive-io/jobfn"


def install_command(extra: str) -> str:
    """Return the shell command that installs jobfn with an extra."""
    return f"pip install 'jobfn[{extra}]{SOURCE}'"
