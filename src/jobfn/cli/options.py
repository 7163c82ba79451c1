"""Options and arguments that several commands have."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from jobfn.errors import ConfigurationError

_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[smhdw]?)")
#: Maximum age: about a century, which every time can be moved by.
_MAX_AGE_DAYS = 36_500

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="postgresql://user@host/name. Default: DATABASE_URL, PG*, or the running `jobfn dev`.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Target = Annotated[str, typer.Argument(metavar="FILE_OR_MODULE[:app]", help="functions.py or shop.functions.")]
DatabaseId = Annotated[UUID | None, typer.Option(help="The tenant.", metavar="UUID")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Priority = Annotated[int, typer.Option(help="Lower runs first.", min=-(2**31), max=2**31 - 1)]
MaxAttempts = Annotated[int, typer.Option(help="Maximum number of attempts.", min=1, max=2**31 - 1)]
OwnPriority = Annotated[
    int | None,
    typer.Option("--priority", help="Lower runs first. Default: the task's, else 0.", min=-(2**31), max=2**31 - 1),
]
OwnMaxAttempts = Annotated[
    int | None,
    typer.Option(
        "--max-attempts", help="Maximum number of attempts. Default: the task's, else 25.", min=1, max=2**31 - 1
    ),
]


def str_or_none(value: UUID | None) -> str | None:
    """Return a UUID as text."""
    return None if value is None else str(value)


def parse_seconds(text: str | None, option: str) -> float | None:
    """Return the seconds of an age such as 15m."""
    if text is None:
        return None
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise ConfigurationError(f"{option} {text!r} is not an age: write 30s, 15m, 2h or 7d")
    seconds = float(match["number"]) * _UNIT_SECONDS[match["unit"]]
    if seconds > _MAX_AGE_DAYS * 86_400:
        raise ConfigurationError(f"{option} {text!r} is too long: give at most {_MAX_AGE_DAYS}d")
    return seconds


def parse_time(text: str | None, option: str) -> datetime | None:
    """Return an ISO 8601 time, in UTC unless it says otherwise."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text!r} is not an ISO 8601 time: write 2030-01-31T09:00+01:00") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


PauseFor = Annotated[str | None, typer.Option("--for", metavar="AGE", help="For 15m, 2h or 1d.")]
PauseUntil = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Until an ISO 8601 time, by default in UTC.")
]


def parse_pause(duration: str | None, until: str | None) -> tuple[float | None, datetime | None]:
    """Return for how many seconds, or until when, ``--for`` and ``--until`` pause."""
    if duration is not None and until is not None:
        raise ConfigurationError("--for and --until exclude each other: give one of them")
    return parse_pause_seconds(duration), parse_time(until, "--until")


def parse_pause_seconds(duration: str | None) -> float | None:
    """Return for how many seconds ``--for`` pauses."""
    seconds = parse_seconds(duration, "--for")
    if seconds == 0:
        raise ConfigurationError(f"--for {duration!r} is not a pause: give more than 0 seconds")
    return seconds


def check_json(text: str, *, name: str = "the payload") -> str:
    """Return the text if it is JSON that PostgreSQL accepts."""
    try:
        text.encode()  # the shell passes invalid UTF-8 as surrogates
        json.loads(text, parse_constant=_reject_constant, parse_int=str)  # PostgreSQL has no limit for integers
    except RecursionError:
        raise ConfigurationError(f"{name} is nested too deeply: flatten it") from None
    except UnicodeError:
        raise ConfigurationError(f"{name} is not valid UTF-8, which JSON requires: convert it first") from None
    except ValueError as error:
        raise ConfigurationError(
            f"{name} is not valid JSON ({error}): quote it for the shell, '{{\"id\": 1}}'"
        ) from None
    return text


def _reject_constant(name: str) -> None:
    raise ConfigurationError(f"{name} is not valid JSON: send null or a string instead")
