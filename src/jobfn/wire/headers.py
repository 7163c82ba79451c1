"""``JobHeaders``: the job headers of a delivery, parsed."""

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
    DURABLE,
    ECHO_HEADERS,
    ENTITY_ID,
    EXECUTION_ID,
    HEARTBEAT_URL,
    INSTALLATION_ID,
    INVOCATION_ID,
    INVOKE_SECRET,
    JOB_ATTEMPT,
    JOB_CREATED_AT,
    JOB_ERROR,
    JOB_ID,
    JOB_OUTCOME,
    JOB_SNOOZES,
    KEEP_RESULT_SECONDS,
    LEASE_SECONDS,
    NODE_NAME,
    ORGANIZATION_ID,
    SETTLE_ON,
    SETTLE_ON_RESPONSE,
    WORKER_ID,
)
from jobfn.wire.trace_context import TRACEPARENT, TRACESTATE, TraceContext

#: The platform's Node parts send all three for an absent value.
ABSENT_VALUES: Final = frozenset({"", "null", "undefined"})
#: Bounds of a lease, in which three heartbeats are sent. A worker's ``JOBS_LEASE_SECONDS`` is within them.
MIN_LEASE_SECONDS: Final = 0.1
MAX_LEASE_SECONDS: Final = 86_400.0
_MAX_BIGINT: Final = 2**63 - 1
_MAX_INT: Final = 2**31 - 1
_MAX_DIGITS: Final = 19
_NAMES: Final = {
    name.lower().encode("ascii"): name
    for name in (
        *ECHO_HEADERS,
        INSTALLATION_ID,
        JOB_CREATED_AT,
        JOB_SNOOZES,
        CALLBACK_URL,
        CALLBACK_BATCH,
        HEARTBEAT_URL,
        LEASE_SECONDS,
        SETTLE_ON,
        INVOKE_SECRET,
        JOB_ERROR,
        JOB_OUTCOME,
        DURABLE,
        KEEP_RESULT_SECONDS,
        TRACEPARENT,
        TRACESTATE,
    )
}
_SPELLINGS: Final = {name.decode(): spelling for name, spelling in _NAMES.items()}
#: Keys of the ids in logs and spans. The task identifier is not in a header.
_LOG_KEYS: Final = {"job": JOB_ID, "attempt": JOB_ATTEMPT, "worker": WORKER_ID, "tenant": DATABASE_ID}
#: As above, for ids that most jobs do not have.
_OPTIONAL_LOG_KEYS: Final = {
    "organization": ORGANIZATION_ID,
    "invocation": INVOCATION_ID,
    "execution": EXECUTION_ID,
    "node": NODE_NAME,
}
_OPTIONAL_HEADERS: Final = frozenset(_OPTIONAL_LOG_KEYS.values())
#: Headers that most deliveries do not have.
_RARE_HEADERS: Final = _OPTIONAL_HEADERS | {JOB_SNOOZES, KEEP_RESULT_SECONDS}
_USUAL_ECHO_HEADERS: Final = tuple(name for name in ECHO_HEADERS if name not in _OPTIONAL_HEADERS)


class JobHeaders(NamedTuple):
    """The job headers of one delivery. All may be absent, for example in a manual call.

    Attributes:
        attempt: Number of this attempt, 1 for the first. Older workers do not send it.
        callback_url: URL of the report, not normalized: see ``report_url``.
        callback_batch: URL of report batches, if the worker accepts them.
        heartbeat_url: URL of job heartbeats, if the worker accepts them.
        lease_seconds: How long each heartbeat extends the job's lock.
        settle_on: ``response`` if the worker offers to settle the job by the response.
        echo: Headers to echo, with the contract's spelling of the names.
        invocation_id: The worker's record of this delivery.
        execution_id: The execution of a flow graph that the job is a part of.
        node_name: The node of the graph that the job runs.
        snoozes: How many of the attempts before this one were snoozes.
        installation_id: Identity of the jobs schema.
        durable: ``steps`` if the callback server records steps.
        keep_result_seconds: Store the result for at least this time, because another job waits for it.
        created_at: When the job was added, as the worker writes it.
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
    settle_on: str | None = None
    echo: tuple[tuple[str, str], ...] = ()
    trace: TraceContext | None = None
    organization_id: UUID | None = None
    invocation_id: UUID | None = None
    execution_id: UUID | None = None
    node_name: str | None = None
    snoozes: int = 0
    installation_id: str | None = None
    durable: str | None = None
    keep_result_seconds: float | None = None
    created_at: str | None = None

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> "JobHeaders":
        """Parse the result of ``extract_job_headers``.

        Raises:
            BadRequest: A header is malformed. The message names it.
        """
        if not headers:
            return NO_HEADERS
        parsed = cls(
            job_id=_integer(headers, JOB_ID, _MAX_BIGINT),
            worker_id=headers.get(WORKER_ID),
            database_id=_uuid(headers, DATABASE_ID),
            actor_id=_uuid(headers, ACTOR_ID),
            entity_id=_uuid(headers, ENTITY_ID),
            attempt=_integer(headers, JOB_ATTEMPT, _MAX_INT),
            callback_url=headers.get(CALLBACK_URL),
            callback_batch=headers.get(CALLBACK_BATCH),
            heartbeat_url=headers.get(HEARTBEAT_URL),
            lease_seconds=_lease_seconds(headers.get(LEASE_SECONDS)),
            settle_on=headers.get(SETTLE_ON),
            echo=_echo(headers),
            trace=_trace(headers),
            installation_id=headers.get(INSTALLATION_ID),
            durable=headers.get(DURABLE),
            created_at=headers.get(JOB_CREATED_AT),
        )
        if _RARE_HEADERS.isdisjoint(headers):
            return parsed
        return parsed._replace(
            organization_id=_uuid(headers, ORGANIZATION_ID),
            invocation_id=_uuid(headers, INVOCATION_ID),
            execution_id=_uuid(headers, EXECUTION_ID),
            node_name=headers.get(NODE_NAME),
            snoozes=_integer(headers, JOB_SNOOZES, _MAX_INT) or 0,
            keep_result_seconds=parse_seconds(headers.get(KEEP_RESULT_SECONDS)),
        )

    @classmethod
    def parse_lenient(cls, headers: Mapping[str, str]) -> "JobHeaders":
        """Parse only the headers that a report needs, and treat malformed ones as absent."""
        return cls(
            job_id=_parse_integer(headers.get(JOB_ID), _MAX_BIGINT),
            worker_id=headers.get(WORKER_ID),
            attempt=_parse_integer(headers.get(JOB_ATTEMPT), _MAX_INT),
            callback_url=headers.get(CALLBACK_URL),
            settle_on=headers.get(SETTLE_ON),
            echo=_echo(headers),
            trace=_trace(headers),
        )

    @property
    def reportable(self) -> bool:
        """Whether worker, job and callback URL are known, so that the outcome can be reported."""
        return self.job_id is not None and self.worker_id is not None and self.callback_url is not None

    @property
    def settled_by_response(self) -> bool:
        """Whether the worker settles the job by the response, also by 202.

        It sends no callback URL; or it is the platform's newer worker, which settles by the response even if it sends
        one. Only that worker sends an invocation id without a heartbeat URL.
        """
        if self.callback_url is None:
            return self.worker_id is not None
        return self.invocation_id is not None and self.heartbeat_url is None

    @property
    def offers_response(self) -> bool:
        """Whether the worker offers to settle the job by the response."""
        return self.settle_on == SETTLE_ON_RESPONSE


NO_HEADERS: Final = JobHeaders()


def extract_job_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the job headers among raw ASGI headers (names in lower case), with the contract's spelling."""
    headers: dict[str, str] = {}
    for key, value in raw:
        name = _NAMES.get(key)
        if name is not None:
            text = _decode(value).strip()
            if text not in ABSENT_VALUES:
                headers[name] = text
    return headers


def job_headers_from_json(member: object) -> dict[str, str]:
    """Return the job headers in a JSON object, with the contract's spelling.

    Raises:
        ValueError: This is not an object.
    """
    if not isinstance(member, dict):
        raise ValueError("headers must be a JSON object")  # noqa: TRY004  - the value came over the network
    headers: dict[str, str] = {}
    for key, value in member.items():
        name = _SPELLINGS.get(key.lower())
        if name is not None and isinstance(value, str | int):
            text = str(value).strip()
            if text not in ABSENT_VALUES:
                headers[name] = text if text.isascii() else text.encode("utf-8", "replace").decode()
    return headers


def log_ids(headers: Mapping[str, str], task: str | None = None) -> dict[str, str | int | None]:
    """Return the ids of a delivery for logs and spans.

    Returns:
        The first five ids of a job, None for those that are unknown, and those of the others that are known. Without a
        job id, only the known ones.
    """
    ids: dict[str, str | int | None] = {"task": task}
    for key, header in _LOG_KEYS.items():
        text = headers.get(header)
        number = _parse_integer(text, _MAX_BIGINT) if header in {JOB_ID, JOB_ATTEMPT} else None
        ids[key] = text if number is None else number
    ids |= {key: headers[header] for key, header in _OPTIONAL_LOG_KEYS.items() if header in headers}
    if ids["job"] is None:
        return {key: value for key, value in ids.items() if value is not None}
    return ids


def parse_seconds(text: str | None) -> float | None:
    """Return a finite number of seconds above 0, or None if the text is anything else."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def _lease_seconds(text: str | None) -> float | None:
    seconds = parse_seconds(text)
    if seconds is None or MIN_LEASE_SECONDS <= seconds <= MAX_LEASE_SECONDS:
        return seconds
    return MIN_LEASE_SECONDS if seconds < MIN_LEASE_SECONDS else MAX_LEASE_SECONDS


def _decode(value: bytes) -> str:
    """Decode UTF-8, which HTTP clients send, or latin-1, which decodes any bytes."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _echo(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    names = _USUAL_ECHO_HEADERS if _OPTIONAL_HEADERS.isdisjoint(headers) else ECHO_HEADERS
    return tuple([(name, headers[name]) for name in names if name in headers])  # faster than a generator


def _trace(headers: Mapping[str, str]) -> TraceContext | None:
    return TraceContext.parse(headers.get(TRACEPARENT), headers.get(TRACESTATE))


def _integer(headers: Mapping[str, str], name: str, maximum: int) -> int | None:
    text = headers.get(name)
    number = _parse_integer(text, maximum)
    if text is not None and number is None:
        raise BadRequest(
            f"{name} must be a whole number from 1 to {maximum}, in decimal digits: leave it out if there is none"
        )
    return number


def _parse_integer(text: str | None, maximum: int) -> int | None:
    """Return the number from 1 to ``maximum`` in decimal digits, or None."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > _MAX_DIGITS:
        return None
    number = int(text)
    return number if 0 < number <= maximum else None


def _uuid(headers: Mapping[str, str], name: str) -> UUID | None:
    text = headers.get(name)
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise BadRequest(
            f"{name} must be a UUID such as 5b720132-17d5-424d-9bcb-ee7b17c13d43: leave it out if there is none"
        ) from None
