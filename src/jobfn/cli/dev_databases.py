"""``jobfn dev --list`` and ``--remove``: the development databases of this user."""

import os
import sys
from pathlib import Path

from jobfn.cli.output import echo
from jobfn.cli.render_times import columns
from jobfn.cli.session import confirm
from jobfn.devserver.databases import DevDatabases


def list_databases() -> None:
    """Print the databases, the largest first."""
    databases = DevDatabases(os.environ).all()
    if not databases:
        echo("no development databases")
        return
    rows = [("SIZE", "STATE", "FOLDER")]
    rows += [
        (_megabytes(each.size_bytes), "running" if each.is_running else "stopped", str(each.project))
        for each in databases
    ]
    echo("\n".join(columns(rows, max_width=sys.maxsize)))  # --remove needs whole paths


def remove_database(folder: Path, *, yes: bool) -> None:
    """Remove the database of a folder, after a confirmation."""
    databases = DevDatabases(os.environ)
    database = databases.find(folder)
    size = _megabytes(database.size_bytes)
    confirm(f"remove the development database of {database.project} ({size})?", yes=yes)
    databases.remove(database)
    echo(f"removed {size}")


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
