"""State of a running ``jobfn dev``, in a file that commands in other terminals read."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from jobfn.errors import ConfigurationError

FILE = Path(".jobfn") / "dev.json"
#: Locked while a server runs in the folder. The kernel unlocks it when the process ends.
LOCK_FILE = Path(".jobfn") / "dev.lock"


class DevState(BaseModel):
    """A running development server.

    Attributes:
        database_url: Its database; None if the ``PG*`` variables name it.
        dashboard_url: URL of the dashboard; None if it is turned off.
        loopback_url: Address of the embedded database with port and password; None for another database.
    """

    pid: int
    database_url: str | None
    function_url: str
    callback_url: str
    dashboard_url: str | None = None
    loopback_url: str | None = None

    @classmethod
    def find(cls, folder: Path) -> "DevState | None":
        """Return the server that runs in this folder or one above it; None if there is none."""
        for parent in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValidationError):
                state = cls.model_validate_json((parent / FILE).read_bytes())
                if is_alive(state.pid):
                    return state
        return None

    @contextlib.contextmanager
    def published(self, folder: Path) -> Iterator[None]:
        """Write the file, which only its owner can read, for the duration of the block."""
        file = prepare_folder(folder) / FILE.name
        file.unlink(missing_ok=True)
        file.touch(0o600)
        file.write_text(self.model_dump_json(indent=2))
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def prepare_folder(project: Path) -> Path:
    """Create the folder of the file, if it is missing, and return it.

    Raises:
        ConfigurationError: It cannot be written.
    """
    folder = project / FILE.parent
    problem: object = "it is read-only"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        problem = error.strerror
    if folder.is_dir() and os.access(folder, os.W_OK):
        return folder
    raise ConfigurationError(f"cannot write to {folder} ({problem}): run jobfn dev in a folder that you may write to")


@contextlib.contextmanager
def only_server(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder for the duration of the block.

    Raises:
        ConfigurationError: Another server runs in the folder, or it cannot be written.
    """
    file = prepare_folder(folder) / LOCK_FILE.name
    try:
        opened = file.open("w")
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {file} ({error.strerror}): remove it, or run jobfn dev as its owner"
        ) from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = DevState.find(folder)
            who = f" (process {running.pid}, {running.function_url}/)" if running else ""
            raise ConfigurationError(
                f"jobfn dev already runs in this folder{who}: stop it first, or start this one in another folder"
            ) from None
        yield


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
