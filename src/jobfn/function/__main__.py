"""``python -m jobfn.function FILE_OR_MODULE[:app]``: the entry point of containers. It imports no typer."""

import os
import signal
import sys

if __name__ == "__main__":  # Ctrl-C during the imports below is not a traceback
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import argparse

from jobfn.errors import ConfigurationError
from jobfn.function.loading import load_app
from jobfn.function.serve import port_from, serve
from jobfn.telemetry import logs, otel


def main(arguments: list[str] | None = None) -> int:
    """Serve the target. Return the exit code: 0 after a graceful stop, 2 and one line for a configuration error."""
    parser = argparse.ArgumentParser(
        prog="python -m jobfn.function",
        description="Serve the tasks of a Python file or module over HTTP.",
        epilog="example: PORT=8080 python -m jobfn.function functions.py",
    )
    parser.add_argument(
        "target", metavar="FILE_OR_MODULE[:app]", help="functions.py or shop.functions, optionally with :app"
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")  # noqa: S104  - containers listen on all addresses
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
        sys.stderr.write(f"jobfn: {error} [{error.code}]\n")
        return 2
    except KeyboardInterrupt:  # while the user's module is imported
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
