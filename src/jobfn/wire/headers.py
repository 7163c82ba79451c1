"""``JobHeaders``: what a delivery says of itself, read out of its request."""

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from jobfn.errors import BadRequest
from jobfn.wire.names import (
    ACTOR_ID,
    CALLBACK_BATCH,
    CALLBACK_URL,
    DATABASE_ID,
    ECHO_HEADERS,
    ENTITY_ID,
    HEARTBEAT_URL,
    INVOKE_SECRET,
    JOB_ATTEMPT,
    JOB_ERROR,
    JOB_ID,
    LEASE_SECONDS,
    WORKER_ID,
)
from jobfn.wire.trace_context import TRACEPARENT, TRACESTATE, TraceContext

_ABSENT: Final = frozenset({"", "null", "undefined"})
_MAX_BIGINT: Final = 2**63 - 1
_MAX_INT: Final = 2**31 - 1
_MAX_DIGITS: Final = 19
_NAMES: Final = {
    name.lower().encode("ascii"): name
    for name in (
        *ECHO_HEADERS,
        CALLBACK_URL,
        CALLBACK_BATCH,
        HEARTBEAT_URL,
        LEASE_SECONDS,
        INVOKE_SECRET,
        JOB_ERROR,
        TRACEPARENT,
        TRACESTATE,
    )
}

#: What the ids are called in logs and spans; the task, beside them, stands in no header.
_LOGGED: Final = {"job": JOB_ID, "attempt": JOB_ATTEMPT, "worker": WORKER_ID, "tenant": DATABASE_ID}


class JobHeaders(NamedTuple):
    """The job headers of one delivery, typed. Every one may be absent: a person calls with none.

    Attributes:
        job_id: ``jobs.id``.
        worker_id: The id that holds the job's lock.
        database_id: The tenant.
        actor_id: Who caused the job.
        entity_id: What the job is about.
        attempt: Which attempt this is, 1 for the first; None where the worker does not say.
        callback_url: Where the outcome is to be reported, as it came.
        callback_batch: Where it may be reported together with others, where the worker offers that.
        heartbeat_url: Where signs of life are heard, where the worker offers that.
        lease_seconds: For how long each of them keeps the job's lock, in seconds.
        echo: The headers to send back, names and values as the contract spells them.
        trace: Which trace it is a part of, where the worker says so.
    """

    job_id: int | None = None
    worker_id: str | None = None
    database_id: UUID | None = None
    actor_id: UUID | None = None
    entity_id: UUID | None = None
    attempt: int | None = None
    callback_url: str | None = None
    callback_batch: str | None = None
    heartbeat_url: str | None = None
    lease_seconds: float | None = None
    echo: tuple[tuple[str, str], ...] = ()
    trace: TraceContext | None = None

    @classmethod
    def parse(cls, raw: Iterable[tuple[bytes, bytes]]) -> "JobHeaders":
        """Read the job headers out of raw ASGI headers, whose names are in lower case.

        Empty, ``null`` and ``undefined`` count as absent: the Node worker sends all three.

        Raises:
            BadRequest: A header is there and cannot be what the contract says; names the header.
        """
        found = extract_job_headers(raw)
        if not found:
            return NO_HEADERS
        return cls(
            job_id=_integer(found, JOB_ID, _MAX_BIGINT),
            worker_id=found.get(WORKER_ID),
            database_id=_uuid(found, DATABASE_ID),
            actor_id=_uuid(found, ACTOR_ID),
            entity_id=_uuid(found, ENTITY_ID),
            attempt=_integer(found, JOB_ATTEMPT, _MAX_INT),
            callback_url=found.get(CALLBACK_URL),
            callback_batch=found.get(CALLBACK_BATCH),
            heartbeat_url=found.get(HEARTBEAT_URL),
            lease_seconds=parse_seconds(found.get(LEASE_SECONDS)),
            echo=_echo(found),
            trace=TraceContext.parse(found.get(TRACEPARENT), found.get(TRACESTATE)),
        )

    @classmethod
    def parse_lenient(cls, raw: Iterable[tuple[bytes, bytes]]) -> "JobHeaders":
        """Read what a report needs and nothing else, for a delivery whose other headers are malformed."""
        return cls.parse_lenient_mapping(extract_job_headers(raw))

    @classmethod
    def parse_lenient_mapping(cls, found: Mapping[str, str]) -> "JobHeaders":
        """As ``parse_lenient``, of headers that ``extract_job_headers`` has found."""
        return cls(
            job_id=_whole_number(found.get(JOB_ID), _MAX_BIGINT),
            worker_id=found.get(WORKER_ID),
            attempt=_whole_number(found.get(JOB_ATTEMPT), _MAX_INT),
            callback_url=found.get(CALLBACK_URL),
            echo=_echo(found),
            trace=TraceContext.parse(found.get(TRACEPARENT), found.get(TRACESTATE)),
        )

    @property
    def reportable(self) -> bool:
        """Whether an outcome can be reported: worker, job and callback URL are all known."""
        return self.job_id is not None and self.worker_id is not None and self.callback_url is not None

    @property
    def settled_by_response(self) -> bool:
        """Whether a worker waits for the response and wants no report: nobody else would hear of the end."""
        return self.worker_id is not None and self.callback_url is None


NO_HEADERS: Final = JobHeaders()


def extract_job_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The job headers that are present, by their contract names; absent in any spelling is absent.

    Args:
        raw: As ASGI has them: names in lower case.
    """
    found: dict[str, str] = {}
    for key, value in raw:
        name = _NAMES.get(key)
        if name is not None:
            text = _decoded(value).strip()
            if text not in _ABSENT:
                found[name] = text
    return found


def log_ids(found: Mapping[str, str], task: str | None = None) -> dict[str, str | int | None]:
    """The ids of a delivery as they go into logs and spans.

    Args:
        found: Headers that ``extract_job_headers`` has found.
        task: The task, which stands in no header; None: not known.

    Returns:
        Of a job all five, None where the headers do not say; without a job, those that are known.
    """
    ids: dict[str, str | int | None] = {"task": task}
    for name, header in _LOGGED.items():
        text = found.get(header)
        number = _whole_number(text, _MAX_BIGINT) if header in {JOB_ID, JOB_ATTEMPT} else None
        ids[name] = text if number is None else number
    if ids["job"] is None:
        return {name: value for name, value in ids.items() if value is not None}
    return ids


def _decoded(value: bytes) -> str:
    """A header's text. UTF-8 where it is, as HTTP clients write it; else latin-1, which anything is."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _echo(found: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, found[name]) for name in ECHO_HEADERS if name in found)


def _integer(found: Mapping[str, str], name: str, highest: int) -> int | None:
    text = found.get(name)
    number = _whole_number(text, highest)
    if text is not None and number is None:
        raise BadRequest(
            f"{name} must be a whole number from 1 to {highest}, in decimal digits; leave it out when there is none"
        )
    return number


def _whole_number(text: str | None, highest: int) -> int | None:
    """The number from 1 to ``highest`` that a text spells, else None."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > _MAX_DIGITS:
        return None
    number = int(text)
    return number if 0 < number <= highest else None


def parse_seconds(text: str | None) -> float | None:
    """A number of seconds above 0; what is none counts as not said."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def _uuid(found: Mapping[str, str], name: str) -> UUID | None:
    text = found.get(name)
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise BadRequest(
            f"{name} must be a UUID such as 5b720132-17d5-424d-9bcb-ee7b17c13d43; leave it out when there is none"
        ) from None
