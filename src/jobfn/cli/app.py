"""Combine all commands, and end each with an exit code: errors become one clear line, not a traceback."""

import importlib
import importlib.metadata
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

from jobfn.cli.exit_codes import FAILED, INTERRUPTED, OK, USAGE_ERROR
from jobfn.cli.interrupt import exit_at_ctrl_c
from jobfn.cli.output import echo, without_escapes
from jobfn.errors import ConfigurationError, JobfnError

# typer bundles its own click since 0.26 and imported click before: this is the class that it raises.
_ClickError = cast("type[Exception]", typer.BadParameter.__mro__[2])

_HELP = "Run Python functions as background jobs, queued in PostgreSQL."

#: The module of each command, in the order of the help.
_COMMAND_MODULES = {
    "dev": "run",
    "serve": "run",
    "service": "run",
    "dashboard": "dashboard",
    "enqueue": "enqueue",
    "export-schema": "export_schema",
    "export-handler": "export_handler",
    "workers": "workers",
    "audit": "audit",
    "doctor": "doctor",
    "mcp": "mcp",
    "explain": "explain",
    "explain-wait": "explain_wait",
    "jobs": "jobs",
    "pause": "pauses",
    "resume": "pauses",
    "pauses": "pauses",
    "tenants": "tenants",
    "init": "init",
    "inspect": "images",
    "build": "images",
    "manifests": "manifests",
    "invoke-secret": "invoke_secret",
    "register": "register",
    "db": "db",
    "sync": "sync",
    "tasks": "tasks",
    "limits": "limits",
    "schedules": "schedules",
    "triggers": "triggers",
}


#: Maximum width of help, which typer indents by two.
_HELP_WIDTH = 78


def build_app(command: str | None = None) -> typer.Typer:
    """Build the typer app with one command, so that only its module is imported, or with all of them."""
    app = typer.Typer(
        name="jobfn",
        help=_HELP,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    modules = [_COMMAND_MODULES[command]] if command in _COMMAND_MODULES else dict.fromkeys(_COMMAND_MODULES.values())
    for name in modules:
        module = importlib.import_module(f"jobfn.cli.{name}")
        if hasattr(module, "register_commands"):
            module.register_commands(app)
        else:
            app.add_typer(module.app, name=name)
    for each in (app, *(group.typer_instance for group in app.registered_groups)):
        for info in each.registered_commands if each is not None else ():
            info.epilog = _examples(info.epilog) if isinstance(info.epilog, str) else info.epilog
    return app


def _examples(text: str) -> str:
    """Write examples on lines of their own, so that they can be copied. A long one goes on after a backslash."""
    if text.startswith("\b"):  # the apps of groups outlive this one
        return text
    label, _, examples = text.partition(": ")
    lines = [f"{label}:"]
    for example in examples.split("; "):
        line = " "
        for part in re.split(r" (?=-|'|http)", example):  # not within a quoted argument
            if len(f"{line} {part}") > _HELP_WIDTH - len(" \\"):
                lines.append(f"{line} \\")
                line = "   "
            line += f" {part}"
        lines.append(line)
    return "\n".join(["\b", *lines])  # \b: not wrapped


def _show_version(value: bool) -> None:
    if value:
        echo(importlib.metadata.version("jobfn"))
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        with exit_at_ctrl_c():
            app = build_app(arguments[0] if arguments else None)
        code = typer.main.get_command(app).main(list(arguments), prog_name="jobfn", standalone_mode=False)
    except _ClickError as error:
        sys.stderr.write(without_escapes(_format_usage_error(error)))
        return USAGE_ERROR
    except JobfnError as error:
        sys.stderr.write(without_escapes(_format_error(error, with_docs_url=sys.stderr.isatty())))
        return USAGE_ERROR if isinstance(error, ConfigurationError) else FAILED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return OK
    except SystemExit as exit_:
        if isinstance(exit_.__context__, BrokenPipeError):  # typer exits with 1 then
            return OK
        raise
    return code if isinstance(code, int) else OK


def _format_error(error: JobfnError, *, with_docs_url: bool) -> str:
    return f"jobfn: {error} [{error.code}]\n" + (f"       {error.docs_url()}\n" if with_docs_url else "")


def _format_usage_error(error: Any) -> str:
    """Format a wrong command line as one line; without arguments, typer's message is the help."""
    message: str = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"{message}\n"
    context = getattr(error, "ctx", None)
    see_help = f" (see: {context.command_path} --help)" if context is not None else ""
    # pydantic, which validates for typer, adds "Value error" to some messages
    return f"jobfn: {message.replace(': Value error, ', ': ').removesuffix('.')}{see_help}\n"
