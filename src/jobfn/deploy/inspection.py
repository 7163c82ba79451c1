"""List the tasks of a function: a Python process imports it and prints them (``jobfn.function.dump_tasks``)."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobfn.errors import ConfigurationError, LoadError

DEFAULT_FILE = "functions.py"


class TaskInfo(BaseModel):
    """A task of a function.

    Attributes:
        description: First line of its docstring; empty without one.
        payload: JSON Schema of its payload.
        background: Whether its request is answered before it ends.
        schedule: Its ``schedule_info``; None: no schedule.
        secrets: Its environment variables with secrets: name, and whether it is required.
        configs: The same for settings.
    """

    model_config = ConfigDict(frozen=True)

    identifier: str
    description: str
    payload: dict[str, Any]
    location: str
    timeout_seconds: float | None = None
    background: bool = False
    schedule: dict[str, Any] | None = None
    secrets: list[dict[str, Any]] = Field(default_factory=list)
    configs: list[dict[str, Any]] = Field(default_factory=list)


_TASK_INFOS = TypeAdapter(list[TaskInfo])


def resolve_target(path: Path) -> str:
    """Return the Python file of a path: for a folder, its ``functions.py``.

    Raises:
        ConfigurationError: The file does not exist.
    """
    file = path / DEFAULT_FILE if path.is_dir() else path
    if not file.is_file():
        raise ConfigurationError(
            f"{file} does not exist: give the Python file with your tasks, or a folder with a {DEFAULT_FILE}; "
            "`jobfn init` creates one"
        )
    return str(file)


def inspect_tasks(target: str) -> list[TaskInfo]:
    """Import a file or module in a new process and return its tasks.

    Args:
        target: As for ``jobfn serve``: ``functions.py`` or ``shop.functions``, optionally with ``:app``.

    Raises:
        LoadError: It cannot be imported, or has no task.
    """
    command = [sys.executable, "-m", "jobfn.function.dump_tasks", target]
    process = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603  - no shell
    if process.returncode == 0:
        return _TASK_INFOS.validate_json(process.stdout)
    lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
    if process.returncode == 2 and lines[-1].startswith("jobfn: "):  # a usage error, in one line
        raise LoadError(lines[-1].removeprefix("jobfn: "))
    raise LoadError(f"{target} cannot be imported: {lines[-1]}")
