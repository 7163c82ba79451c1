"""How commands on jobs run: with ``Operations``, with_spinner, and after a question where much is at stake."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Self, TextIO, TypeVar

import typer

from jobfn.cli.database import database_of, in_loop, schema_of
from jobfn.cli.exit_codes import FAILED
from jobfn.database.connection import pool
from jobfn.errors import ConfigurationError
from jobfn.operations import Operations, open_operations

T = TypeVar("T")

#: What takes longer shows that it goes on.
SPINNER_DELAY_SECONDS = 1.0
#: Completion in a shell waits no longer than a person does.
_COMPLETION_SECONDS = 2.0


def with_operations(
    work: Callable[[Operations], Coroutine[Any, Any, T]], database_url: str | None, *, doing: str | None = None
) -> T:
    """Do something with the jobs of the database that a command means.

    Args:
        work: What.
        database_url: The command's option.
        doing: What a moving bar says when it takes over a second; None: it shows itself how far it is.
    """

    async def run() -> T:
        async with pool(database_of(database_url), application_name="jobfn-operate", size=2) as connections:
            operations = await open_operations(connections, schema_of())
            return await (work(operations) if doing is None else with_spinner(work(operations), doing))

    return in_loop(run())


async def with_spinner(
    work: Coroutine[Any, Any, T],
    doing: str,
    *,
    stream: TextIO | None = None,
    after_seconds: float = SPINNER_DELAY_SECONDS,
) -> T:
    """Await, and show in a terminal that it goes on.

    Args:
        work: What to await.
        doing: What is shown.
        stream: Where, if it is a terminal. Default: standard error.
        after_seconds: When it takes longer than this.
    """
    stream = stream or sys.stderr
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=after_seconds)
        if not task.done() and stream.isatty():
            from rich.console import Console  # noqa: PLC0415  - only where it shows

            with Console(file=stream).status(doing):
                return await task
        return await task
    finally:
        task.cancel()


class Bar:
    """A progress bar, shown when the work takes over a second and somebody watches.

    Args:
        doing: What it says.
        total: How much there is to do.
        clock: Monotonic seconds.
        stream: Where, if it is a terminal. Default: standard error.
    """

    def __init__(self, doing: str, total: int, clock: Callable[[], float], *, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._doing = doing
        self._total = total
        self._clock = clock
        self._began = clock()
        self._done = 0
        self._shown: Any = None

    def advance(self, count: int) -> None:
        """So much more is done."""
        self._done += count
        if self._shown is None and self._stream.isatty() and self._clock() - self._began > SPINNER_DELAY_SECONDS:
            self._shown = _progress(self._stream)
            self._shown.start()
            self._shown.add_task(self._doing, total=self._total)
        if self._shown is not None:
            self._shown.update(self._shown.task_ids[0], completed=min(self._done, self._total))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._shown is not None:
            self._shown.stop()


def _progress(stream: TextIO) -> Any:
    from rich.console import Console  # noqa: PLC0415  - only where it shows
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if somebody says yes.

    Raises:
        ConfigurationError: Nobody is there to be asked.
        typer.Exit: The answer was no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(f"{question} Say --yes where nobody can be asked")
    if not typer.confirm(question, err=True):
        typer.echo("nothing was done", err=True)
        raise typer.Exit(FAILED)


def complete_tasks(incomplete: str) -> list[str]:
    """The names of tasks that begin so, for a shell's completion. Where they cannot be had in time, none."""

    async def names() -> tuple[str, ...]:
        async with asyncio.timeout(_COMPLETION_SECONDS):
            async with pool(database_of(None), application_name="jobfn-completion", size=1) as connections:
                return await (await open_operations(connections, schema_of())).tasks()

    try:
        return [name for name in in_loop(names()) if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001  - a shell that completes has no place for an error
        return []
