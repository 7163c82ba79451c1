"""Run commands with ``Operations``, show a spinner or progress bar, and ask for confirmation."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Self, TextIO, TypeVar

import typer

from jobfn.cli.database import jobs_schema, resolve_database_url, run_async
from jobfn.cli.exit_codes import FAILED
from jobfn.cli.interrupt import ctrl_c_interrupts
from jobfn.cli.output import echo
from jobfn.database.connection import open_pool
from jobfn.errors import ConfigurationError
from jobfn.operations import Operations, open_operations
from jobfn.operations.actor import Source, os_actor

T = TypeVar("T")

#: Delay before a spinner or progress bar appears.
SPINNER_DELAY_SECONDS = 1.0
#: Timeout of shell completion.
_COMPLETION_TIMEOUT_SECONDS = 2.0


def with_operations(
    work: Callable[[Operations], Coroutine[Any, Any, T]], database_url: str | None, *, spinner: str | None = None
) -> T:
    """Run a coroutine function with the operations of the command's database."""

    async def run() -> T:
        dsn = resolve_database_url(database_url)
        async with open_pool(dsn, application_name="jobfn-operate", size=2) as connections:
            operations = await open_operations(connections, jobs_schema(), actor=lambda: os_actor(Source.CLI))
            return await (work(operations) if spinner is None else with_spinner(work(operations), spinner))

    return run_async(run())


async def with_spinner(
    work: Coroutine[Any, Any, T],
    text: str,
    *,
    stream: TextIO | None = None,
    delay_seconds: float = SPINNER_DELAY_SECONDS,
) -> T:
    """Await a coroutine, and show a spinner in a terminal if it takes longer than the delay."""
    stream = stream or sys.stderr
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=delay_seconds)
        if not task.done() and stream.isatty():
            from rich.console import Console  # noqa: PLC0415  - only for a terminal

            with Console(file=stream).status(text):
                return await task
        return await task
    finally:
        task.cancel()


class ProgressBar:
    """A progress bar that appears in a terminal if the work takes long by a monotonic clock."""

    def __init__(self, text: str, total: int, clock: Callable[[], float], *, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._text = text
        self._total = total
        self._clock = clock
        self._started = clock()
        self._completed = 0
        self._progress: Any = None

    def advance(self, steps: int) -> None:
        """Add completed steps."""
        self._completed += steps
        if self._progress is None and self._stream.isatty() and self._clock() - self._started > SPINNER_DELAY_SECONDS:
            self._progress = _rich_progress(self._stream)
            self._progress.start()
            self._progress.add_task(self._text, total=self._total)
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=min(self._completed, self._total))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._progress is not None:
            self._progress.stop()


def _rich_progress(stream: TextIO) -> Any:
    from rich.console import Console  # noqa: PLC0415  - only for a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation.

    Raises:
        ConfigurationError: There is no terminal to ask in.
        typer.Exit: The answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(f"{question} Confirm with --yes: there is no terminal to ask in")
    with ctrl_c_interrupts():
        is_confirmed = typer.confirm(question, err=True)
    if not is_confirmed:
        echo("nothing changed", err=True)
        raise typer.Exit(FAILED)


def complete_tasks(prefix: str) -> list[str]:
    """Return the task identifiers with a prefix for shell completion; none if the database is slow or unreachable."""

    async def read_tasks() -> tuple[str, ...]:
        async with asyncio.timeout(_COMPLETION_TIMEOUT_SECONDS):
            dsn = resolve_database_url(None)
            async with open_pool(dsn, application_name="jobfn-completion", size=1) as connections:
                return await (await open_operations(connections, jobs_schema())).tasks()

    try:
        return [task for task in run_async(read_tasks()) if task.startswith(prefix)]
    except Exception:  # noqa: BLE001  - shell completion cannot show an error
        return []
