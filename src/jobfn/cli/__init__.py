"""The command line: ``jobfn COMMAND``. One file per group of commands; no other package imports them.

``app.py`` combines the groups and turns errors into one line and an exit code.
"""

import sys

from jobfn.cli.interrupt import exit_at_ctrl_c


def main() -> int:
    """Run the console script and return its exit code (``exit_codes.py``)."""
    if sys.argv[1:2] == ["dev"] and not {"--help", "--list", "--remove"}.intersection(sys.argv):
        sys.stderr.write("starting jobfn dev\n")  # the imports take most of a second
        sys.stderr.flush()
    with exit_at_ctrl_c():
        try:
            import typer  # noqa: F401, PLC0415  - an optional dependency
        except ImportError:
            from jobfn.install import install_command  # noqa: PLC0415

            sys.stderr.write(
                f"jobfn: the command line is not installed: {install_command('worker')}; "
                "to serve a function alone: python -m jobfn.function functions.py\n"
            )
            return 2
        from jobfn.cli.app import run  # noqa: PLC0415  - needs typer
    return run(sys.argv[1:])
