"""What a function holds: its tasks, told by a Python process that imports it and ends.

The answer of ``python -m jobfn.function.dump_tasks``, typed; ``cli/images.py`` shows it, ``manifests.py`` reckons with it.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from jobfn.errors import ConfigurationError, LoadError

DEFAULT_FILE = "functions.py"


class TaskFacts(BaseModel):
    """One task of a function.

    Attributes:
        identifier: The task identifier.
        description: The first line of its docstring; empty without one.
        payload: The JSON Schema of its payload.
        location: The file and the line.
        timeout_seconds: Its limit, in seconds; None: none.
        background: Whether it is answered before it has ended.
        schedule: Its ``schedule_info``; None: none.
    """

    model_config = ConfigDict(frozen=True)

    identifier: str
    description: str
    payload: dict[str, Any]
    location: str
    timeout_seconds: float | None = None
    background: bool = False
    schedule: dict[str, Any] | None = None


_FACTS = TypeAdapter(list[TaskFacts])


def target_in(path: Path) -> str:
    """What to load of a path that a user gave: a folder means its functions.py.

    Raises:
        ConfigurationError: There is none.
    """
    found = path / DEFAULT_FILE if path.is_dir() else path
    if not found.is_file():
        raise ConfigurationError(
            f"no file {found}: give the Python file that holds your tasks, or a folder with a {DEFAULT_FILE}; "
            "jobfn init makes one"
        )
    return str(found)


def tasks_in(target: str) -> list[TaskFacts]:
    """Import a file or module in a process of its own, and tell its tasks.

    Args:
        target: As for ``jobfn serve``: ``functions.py``, ``shop.functions``, either with ``:app``.

    Raises:
        LoadError: It cannot be loaded, or holds no task; the reason is the process's own.
    """
    command = [sys.executable, "-m", "jobfn.function.dump_tasks", target]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603  - no shell
    if ended.returncode == 0:
        return _FACTS.validate_json(ended.stdout)
    said = ended.stderr.strip().splitlines() or [f"it ended with exit code {ended.returncode}"]
    if ended.returncode == 2 and said[-1].startswith("jobfn: "):  # wrong use, said in one line
        raise LoadError(said[-1].removeprefix("jobfn: "))
    raise LoadError(f"{target} could not be imported: {said[-1]}")
