"""``python -m jobfn.function.dump_tasks FILE_OR_MODULE[:app]``: what is in there, as JSON on standard output.

``jobfn check`` and ``jobfn manifests`` ask so, in a process of its own: what a user's module does while it is imported
stays there, and two functions may both have a ``models.py``. What is told of a task is in ``describe.py``.
"""

import contextlib
import json
import sys

from jobfn.errors import ConfigurationError
from jobfn.function.describe import facts
from jobfn.function.loading import load_function_app


def main(arguments: list[str]) -> int:
    """Describe the one argument. Returns the exit code: 0, or 2 and one line for a mistake of the user's."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the module prints is no part of the answer
            tasks = [facts(task) for task in load_function_app(*arguments).tasks.values()]
    except ConfigurationError as error:
        sys.stderr.write(f"jobfn: {error}\n")
        return 2
    json.dump(tasks, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
