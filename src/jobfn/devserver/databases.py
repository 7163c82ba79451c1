"""List and remove the development databases of this user, which stay on the disk after ``jobfn dev``.

Each folder in which ``jobfn dev`` has started an embedded PostgreSQL has a file in ``$XDG_STATE_HOME/jobfn/databases``
with its path.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jobfn.devserver.postgres import folder_for, project_id
from jobfn.devserver.state import DevState, is_alive, only_server
from jobfn.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class DevDatabase:
    """A development database.

    Attributes:
        project: The folder in which ``jobfn dev`` ran.
        folder: Its data.
        size_bytes: Size of the data.
        is_running: Whether PostgreSQL runs on it.
    """

    project: Path
    folder: Path
    size_bytes: int
    is_running: bool


class DevDatabases:
    """The development databases of this user.

    Args:
        environ: Environment, which may set ``XDG_STATE_HOME``.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        state = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._folder = Path(state) / "jobfn" / "databases"

    def add(self, project: Path) -> None:
        """Remember the database of a folder. A home folder that cannot be written changes nothing else."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file(project).write_text(str(project.resolve()), "utf-8")
        except OSError:
            return

    def all(self) -> tuple[DevDatabase, ...]:
        """Return the databases that exist, the largest first. Files of others are deleted."""
        found = []
        for file in self._folder.glob("*.txt"):
            project = Path(file.read_text("utf-8"))
            folder = folder_for(project)
            if folder.is_dir():
                found.append(DevDatabase(project, folder, _size_bytes(folder), _is_running(folder)))
            else:
                file.unlink(missing_ok=True)
        return tuple(sorted(found, key=lambda database: -database.size_bytes))

    def project_on(self, port: int) -> Path | None:
        """Return the folder whose ``jobfn dev`` serves its function app on this port; None if it is not known."""
        for file in self._folder.glob("*.txt"):
            project = Path(file.read_text("utf-8"))
            state = DevState.find(project)
            if state is not None and urlsplit(state.function_url).port == port:
                return project
        return None

    def find(self, project: Path) -> DevDatabase:
        """Return the database of a folder.

        Raises:
            ConfigurationError: It has none.
        """
        folder = folder_for(project)
        if not folder.is_dir():
            raise ConfigurationError(
                f"{project} has no development database: `jobfn dev --list` shows those that exist"
            )
        return DevDatabase(project.resolve(), folder, _size_bytes(folder), _is_running(folder))

    def remove(self, database: DevDatabase) -> None:
        """Delete a database.

        Raises:
            ConfigurationError: It is in use.
        """
        if _is_running(database.folder):
            raise ConfigurationError(
                f"the database of {database.project} is running: stop jobfn dev there first. If it was killed, start "
                "and stop it once more"
            )
        if database.project.is_dir():
            with only_server(database.project):
                shutil.rmtree(database.folder)
        else:
            shutil.rmtree(database.folder)
        self._file(database.project).unlink(missing_ok=True)

    def _file(self, project: Path) -> Path:
        return self._folder / f"{project_id(project)}.txt"


def _is_running(folder: Path) -> bool:
    try:
        pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return False
    return is_alive(pid)


def _size_bytes(folder: Path) -> int:
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118  - walk returns strings
            except FileNotFoundError:
                continue  # PostgreSQL has just removed it
    return size
