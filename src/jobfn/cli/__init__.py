"""The command line: ``jobfn VERB``. One file per verb group; nothing imports it.

``app.py`` puts the groups together and turns errors into one line and an exit code.
"""

import sys


def main() -> int:
    """The console script. Returns the exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    try:
        import typer  # noqa: F401, PLC0415  - is it there at all?
    except ImportError:
        sys.stderr.write(
            "jobfn: the command line needs pip install 'jobfn[worker]'; "
            "a function alone is served by: python -m jobfn.function functions.py\n"
        )
        return 2
    from jobfn.cli.app import run  # noqa: PLC0415  - after the look above

    return run(sys.argv[1:])
