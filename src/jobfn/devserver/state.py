"""What other terminals need to know of a running ``jobfn dev``: a small file in the project's folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

FILE = Path(".jobfn") / "dev.json"


class DevState(BaseModel):
    """A running development server.

    Attributes:
        pid: Its process.
        database_url: The database it works on; None where ``PG*`` name it.
        function_url: Where the function app answers.
        callback_url: Where reports are heard.
        dashboard_url: Where the dashboard answers; None where it is off.
    """

    pid: int
    database_url: str | None
    function_url: str
    callback_url: str
    dashboard_url: str | None = None

    @classmethod
    def find(cls, folder: Path) -> "DevState | None":
        """The server that runs in this folder or one above it; None where none does."""
        for parent in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValidationError):
                state = cls.model_validate_json((parent / FILE).read_bytes())
                if _alive(state.pid):
                    return state
        return None

    @contextlib.contextmanager
    def shared(self, folder: Path) -> Iterator[None]:
        """Let others find it for as long as the block runs."""
        file = folder / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.model_dump_json(indent=2))
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
