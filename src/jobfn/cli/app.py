"""All verbs together, and how a command ends: one clear line for what went wrong, never a traceback.

Exit codes: 0 done; 1 it could not be done (no database, a refused job); 2 wrong use, settings or files; 130 Ctrl-C.
``exit_codes.py`` has those of single commands.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

from jobfn.errors import ConfigurationError, JobfnError

# typer carries its own copy of click since 0.26 and imported click's before: these are whichever it raises.
_ClickError = cast("type[Exception]", typer.BadParameter.__mro__[2])

_HELP = "Put work behind a database row: run job functions, the platform side, and both together."

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

#: Which file has which verb, in the order of the help.
_FILES = {
    "dev": "run",
    "serve": "run",
    "service": "run",
    "dashboard": "dashboard",
    "enqueue": "enqueue",
    "export-schema": "export_schema",
    "workers": "workers",
    "doctor": "doctor",
    "jobs": "jobs",
    "init": "init",
    "inspect": "images",
    "build": "images",
    "manifests": "manifests",
    "db": "db",
    "schedules": "schedules",
    "triggers": "triggers",
}


def command_line(verb: str | None = None) -> typer.Typer:
    """The verbs: the one that is wanted, for its file and what it needs is loaded alone; or all of them.

    Args:
        verb: What the command line begins with. None, or what is no verb: all, for the help, and for who mistypes one.
    """
    made = typer.Typer(
        name="jobfn",
        help=_HELP,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    made.callback()(_options)
    for file in [_FILES[verb]] if verb in _FILES else dict.fromkeys(_FILES.values()):
        verbs = importlib.import_module(f"jobfn.cli.{file}")
        if hasattr(verbs, "register_commands"):
            verbs.register_commands(made)
        else:
            made.add_typer(verbs.app, name=file)
    return made


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("jobfn"))
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line. Returns the exit code."""
    try:
        app = command_line(arguments[0] if arguments else None)
        code = typer.main.get_command(app).main(list(arguments), prog_name="jobfn", standalone_mode=False)
    except _ClickError as error:
        sys.stderr.write(_one_line(error))
        return WRONG_USE
    except JobfnError as error:
        sys.stderr.write(_told(error, with_page=sys.stderr.isatty()))
        return WRONG_USE if isinstance(error, ConfigurationError) else FAILED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return DONE
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # which typer makes a failure of
            return DONE
        raise
    return code if isinstance(code, int) else DONE


def _told(error: JobfnError, *, with_page: bool) -> str:
    """What is wrong, in one line; for a person, in a second one, the page that explains it."""
    return f"jobfn: {error}\n" + (f"       {error.docs_url()}\n" if with_page else "")


def _one_line(error: Any) -> str:
    """What was wrong with a command line, and where to read on; its help where nothing was said at all."""
    message: str = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"{message}\n"
    context = getattr(error, "ctx", None)
    read_on = f" (see: {context.command_path} --help)" if context is not None else ""
    # pydantic, which checks the values for typer, says of a word among others that it is an error of a value
    return f"jobfn: {message.replace(': Value error, ', ': ').removesuffix('.')}{read_on}\n"
