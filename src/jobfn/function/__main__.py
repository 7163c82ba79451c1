"""``python -m jobfn.function FILE_OR_MODULE[:app]``: how a container starts. No command-line library is loaded."""

import argparse
import os
import sys

from jobfn.errors import ConfigurationError
from jobfn.function.loading import load_app
from jobfn.function.serve import port_from, serve
from jobfn.telemetry import logs, otel


def main(arguments: list[str] | None = None) -> int:
    """Parse, load, serve. Returns the exit code: 0 after a graceful stop, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(
        prog="python -m jobfn.function",
        description="Serve the tasks of a Python file or module over HTTP.",
        epilog="example: PORT=8080 python -m jobfn.function functions.py",
    )
    parser.add_argument(
        "target", metavar="FILE_OR_MODULE[:app]", help="functions.py, or shop.functions, or either with :app"
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")  # noqa: S104  - a container listens on every address
    parser.add_argument("--port", type=int, help="port to listen on (default: $PORT, else 8080)")
    parser.add_argument("--listener-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        logs.configure()
        otel.configure(os.environ, role="jobfn-function")
        port = options.port if options.port is not None else port_from(os.environ)
        serve(
            load_app(options.target),
            host=options.host,
            port=port,
            listener_fd=options.listener_fd,
            until_stdin_closes=options.until_stdin_closes,
        )
    except ConfigurationError as error:
        sys.stderr.write(f"jobfn: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
