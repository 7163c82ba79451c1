"""The command in the banner of ``jobfn dev`` that adds a job: it can be copied, and works."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from jobfn.dashboard.schema_fields import example_payload
from jobfn.dashboard.task_discovery import TaskDiscovery
from jobfn.worker.routes import Routes


async def enqueue_hint(routes: Routes, folder: Path) -> str:
    """Return a command that adds a job of the first task, with an example of its payload.

    Args:
        routes: The function app.
        folder: Working directory of the reader.
    """
    discovery = TaskDiscovery(routes)
    try:
        tasks = (await discovery.list_tasks()).tasks
    finally:
        await discovery.aclose()
    command = command_path(folder)
    if not tasks:  # the file has an error, or the app takes long
        return f"{command} enqueue TASK '{{\"id\": 1}}'"
    first = next(iter(tasks.values()))
    example = example_payload(first.payload)
    if isinstance(example, dict):  # optional fields are null
        example = {name: value for name, value in example.items() if value is not None}
    payload = json.dumps(example, ensure_ascii=False)
    return f"{command} enqueue {shlex.quote(first.identifier)} {shlex.quote(payload)}"


def command_path(folder: Path) -> str:
    """Return what a shell in the folder needs to call to run this ``jobfn``."""
    own = Path(sys.executable).with_name("jobfn")
    found = shutil.which("jobfn")
    if not own.is_file() or (found is not None and os.path.samefile(found, own)):  # noqa: PTH121  - as `which` says
        return "jobfn"
    path = own.relative_to(folder) if own.is_relative_to(folder) else own
    return shlex.quote(str(path))
