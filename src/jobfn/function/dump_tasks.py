"""``python -m jobfn.function.dump_tasks FILE_OR_MODULE[:app]``: print the tasks as JSON.

``jobfn inspect`` and ``jobfn manifests`` run it as a subprocess, so that importing a user's module has no effect on
the command itself, and two functions may both have a ``models.py``.
"""

import contextlib
import json
import sys

from jobfn.errors import ConfigurationError
from jobfn.function.describe import describe_task
from jobfn.function.loading import load_function_app


def main(arguments: list[str]) -> int:
    """Print the tasks of the target. Return the exit code: 0, or 2 and one line on standard error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the module's own prints must not mix with the JSON
            tasks = [describe_task(task) for task in load_function_app(*arguments).tasks.values()]
    except ConfigurationError as error:
        sys.stderr.write(f"jobfn: {error}\n")
        return 2
    json.dump(tasks, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
