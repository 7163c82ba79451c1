"""``python -m jobfn.function.listing FILE_OR_MODULE[:app]``: what is in there, as JSON on standard output.

``jobfn check`` and ``jobfn manifests`` ask so, in a process of its own: what a user's module does while it is imported
stays there, and two functions may both have a ``models.py``.
"""

import contextlib
import json
import sys
from typing import Any

from jobfn.errors import ConfigurationError, LoadError
from jobfn.function.app import FunctionApp
from jobfn.function.loading import load_app


def describe(target: str) -> list[dict[str, Any]]:
    """The tasks of a file or module: identifier, description, payload schema, place, and what limits each of them.

    Raises:
        LoadError: It cannot be loaded, or is an app of another kind.
        TaskDefinitionError: A task in it cannot work.
    """
    app = load_app(target)
    if not isinstance(app, FunctionApp):
        raise LoadError(f"{target} is an app, but none that create_app made: its tasks cannot be told")
    return [
        {
            "identifier": task.identifier,
            "description": task.summary,
            "payload": task.payload_schema(),
            "location": task.location,
            "timeout_seconds": task.timeout,
            "background": task.background,
            "schedule": task.schedule_info,
        }
        for task in app.tasks.values()
    ]


def main(arguments: list[str]) -> int:
    """Describe the one argument. Returns the exit code: 0, or 2 and one line for a mistake of the user's."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the module prints is no part of the answer
            tasks = describe(*arguments)
    except ConfigurationError as error:
        sys.stderr.write(f"jobfn: {error}\n")
        return 2
    json.dump(tasks, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
