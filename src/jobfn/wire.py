"""The wire: what worker, function and callback server say to each other (contract, sections 1 and 2).

Pure: no I/O, no clock. ``JobHeaders`` is what a delivery carries, ``Report`` what goes back. The function side
(``function/app.py``) and the platform side (``worker/dispatch.py``, ``worker/callbacks.py``) share only this.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID

import pydantic_core

from jobfn.dns_names import dns_name
from jobfn.errors import MalformedRequest
from jobfn.trace_context import TRACEPARENT, TRACESTATE, TraceContext

WORKER_ID: Final = "X-Worker-Id"
JOB_ID: Final = "X-Job-Id"
DATABASE_ID: Final = "X-Database-Id"
ACTOR_ID: Final = "X-Actor-Id"
ENTITY_ID: Final = "X-Entity-Id"
CALLBACK_URL: Final = "X-Callback-Url"
JOB_ERROR: Final = "X-Job-Error"
#: jobfn's own addition: which attempt this delivery is, 1 for the first. Other parties ignore it.
JOB_ATTEMPT: Final = "X-Job-Attempt"
#: jobfn's own: where a running job's signs of life go, and for how many seconds each keeps the job's lock.
HEARTBEAT_URL: Final = "X-Heartbeat-Url"
LEASE_SECONDS: Final = "X-Lease-Seconds"
#: jobfn's own: where reports that are ready at the same moment may go together (``batches.py``), and how its path ends.
CALLBACK_BATCH: Final = "X-Callback-Batch"
BATCH_SEGMENT: Final = "callbacks"
#: jobfn's own: what a function with ``JOBFN_INVOKE_SECRET`` wants to hear from its worker. Never sent on.
INVOKE_SECRET: Final = "X-Invoke-Secret"  # noqa: S105  - the header's name

#: Echoed on every response and report, in this order (contract, section 2).
ECHOED: Final = (WORKER_ID, JOB_ID, DATABASE_ID, ACTOR_ID, ENTITY_ID, JOB_ATTEMPT)

#: ``app_jobs.jobs`` holds at most this many characters of a task identifier.
MAX_TASK_IDENTIFIER_CHARACTERS: Final = 126

#: A result that is larger is not kept. The Node callback server reads at most 100 kB of a report.
MAX_RESULT_BYTES: Final = 64 * 1024
TOO_LARGE: Final = (
    f"its result is larger than the {MAX_RESULT_BYTES // 1024} KiB that are kept: store it, and return where"
)
#: Nothing is kept for longer: ten years.
MAX_KEEP_SECONDS: Final = 10 * 365 * 86_400.0

_ABSENT: Final = frozenset({"", "null", "undefined"})
_MAX_BIGINT: Final = 2**63 - 1
_MAX_INT: Final = 2**31 - 1
_MAX_DIGITS: Final = 19
#: What RFC 3986 allows in a path or query, "%" included: text that is already encoded is left alone.
_URL_SAFE: Final = "%/?:@!$&'()*+,;=-._~"
#: Stands in a base URL for the task.
TASK_PLACE: Final = "{task}"
_AFTER_HOST: Final = re.compile("[/?#]")
#: Host, port and user as a request line and a Host header can carry them.
_HOST: Final = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:@\[\]-]+")
#: A path segment that opens a callback URL to whoever knows it (worker/tokens.py): payload, time and signature.
_TOKEN: Final = re.compile(r"\.?[\w-]+\.[\w-]+\.[\w-]{20,}", re.ASCII)
_NAMES: Final = {
    name.lower().encode("ascii"): name
    for name in (
        *ECHOED,
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


@dataclass(frozen=True, slots=True)
class JobHeaders:
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
        """Read the job headers out of raw ASGI headers.

        Empty, ``null`` and ``undefined`` count as absent: the Node worker sends all three.

        Raises:
            MalformedRequest: A header is there and cannot be what the contract says; names the header.
        """
        found = collect(raw)
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
            lease_seconds=_seconds(found.get(LEASE_SECONDS)),
            echo=_echo(found),
            trace=TraceContext.of(found.get(TRACEPARENT), found.get(TRACESTATE)),
        )

    @classmethod
    def parse_leniently(cls, raw: Iterable[tuple[bytes, bytes]]) -> "JobHeaders":
        """Read what a report needs and nothing else, for a delivery whose other headers are malformed."""
        return cls.leniently(collect(raw))

    @classmethod
    def leniently(cls, found: Mapping[str, str]) -> "JobHeaders":
        """As ``parse_leniently``, of headers that ``collect`` has found."""
        return cls(
            job_id=_whole_number(found.get(JOB_ID), _MAX_BIGINT),
            worker_id=found.get(WORKER_ID),
            attempt=_whole_number(found.get(JOB_ATTEMPT), _MAX_INT),
            callback_url=found.get(CALLBACK_URL),
            echo=_echo(found),
            trace=TraceContext.of(found.get(TRACEPARENT), found.get(TRACESTATE)),
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


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failure says beside that it is one: in a report's body, and in a response's (contract, section 2).

    ``permanent`` and ``retryAfterSeconds`` are jobfn's own; the Node server ignores what it does not know.

    Attributes:
        error: Why; None where nothing is said.
        permanent: Whether the job is not to be tried again.
        retry_after_seconds: When it is to be tried again, from now; None: after the contract's backoff.
    """

    error: str | None
    permanent: bool = False
    retry_after_seconds: float | None = None

    @classmethod
    def read(cls, body: bytes) -> "Failure":
        """What a body says; anything that is no JSON object, or of another type, says nothing."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return cls(None)
        if not isinstance(content, dict):
            return cls(None)
        error = content.get("error") or content.get("message")
        return cls(
            error=error if isinstance(error, str) or error is None else json.dumps(error),
            permanent=content.get("permanent") is True,
            retry_after_seconds=_seconds_to_wait(content.get("retryAfterSeconds")),
        )

    def fields(self) -> dict[str, object]:
        """Jobfn's own fields, for a body; those that say nothing are left out."""
        fields: dict[str, object] = {"permanent": True} if self.permanent else {}
        if self.retry_after_seconds is not None:
            fields["retryAfterSeconds"] = self.retry_after_seconds
        return fields


@dataclass(frozen=True, slots=True)
class KeptResult:
    """What a handler returned, on its way to where it is kept: three more fields of a report, jobfn's own.

    Attributes:
        keep_seconds: For how long it is to be kept.
        result: JSON text, at most ``MAX_RESULT_BYTES``; None where there is a problem.
        problem: Why the result itself is not there.
    """

    keep_seconds: float
    result: str | None = None
    problem: str | None = None

    @classmethod
    def read(cls, body: bytes) -> "KeptResult | None":
        """What a report's body says of it; None: nothing. A body that cannot be read says nothing."""
        if b'"keepResultSeconds"' not in body:
            return None
        try:
            content = pydantic_core.from_json(body, allow_inf_nan=False)
        except ValueError:
            return None
        seconds = _seconds_to_wait(content.get("keepResultSeconds")) if isinstance(content, dict) else None
        if not seconds:
            return None
        seconds = min(seconds, MAX_KEEP_SECONDS)
        problem = content.get("resultProblem")
        if isinstance(problem, str):
            return cls(seconds, problem=problem.replace("\0", "")[:1000])
        text = json.dumps(content.get("result"), ensure_ascii=True)
        if len(text) > MAX_RESULT_BYTES:
            return cls(seconds, problem=TOO_LARGE)
        return cls(seconds, result=text)

    def fields(self) -> bytes:
        """The fields as they stand in a report's body, after others."""
        said = f', "keepResultSeconds": {self.keep_seconds:g}'
        if self.problem is not None:
            return f'{said}, "resultProblem": {json.dumps(self.problem)}'.encode("ascii")
        return f'{said}, "result": {self.result}'.encode()


@dataclass(frozen=True, slots=True)
class Report:
    """One delivery's outcome as it is told to the callback server (contract, section 2).

    Attributes:
        status: ``success`` or ``error``.
        error: Why it failed; None on success.
        permanent: See ``Failure``.
        retry_after_seconds: See ``Failure``.
        kept: What the handler returned, where the task keeps it.
    """

    status: Literal["success", "error"]
    error: str | None = None
    permanent: bool = False
    retry_after_seconds: float | None = None
    kept: KeptResult | None = None

    @classmethod
    def failure(cls, failure: Failure) -> "Report":
        """The report of a failure."""
        return cls("error", failure.error, failure.permanent, failure.retry_after_seconds)

    def body(self) -> bytes:
        """The request body, JSON."""
        content: dict[str, object] = {"status": self.status}
        if self.error is not None:
            failure = Failure(self.error, self.permanent, self.retry_after_seconds)
            content |= {"error": self.error} | failure.fields()
        body = json.dumps(content).encode("ascii")
        return body if self.kept is None else body[:-1] + self.kept.fields() + b"}"

    def headers(self, echo: Iterable[tuple[str, str]]) -> dict[str, str]:
        """The request headers: the delivery's own, echoed, and ``X-Job-Error`` on failure only."""
        headers = dict(echo)
        headers["Content-Type"] = "application/json"
        if self.status == "error":
            headers[JOB_ERROR] = "true"
        return headers


def collect(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The job headers that are present, by their contract names; absent in any spelling is absent."""
    found: dict[str, str] = {}
    for key, value in raw:
        name = _NAMES.get(key.lower())
        if name is not None:
            text = _decoded(value).strip()
            if text not in _ABSENT:
                found[name] = text
    return found


def log_ids(found: Mapping[str, str]) -> dict[str, str | int]:
    """The ids of a delivery as they go into logs and spans, of headers that ``collect`` has found."""
    ids: dict[str, str | int] = {}
    for name, header in _LOGGED.items():
        text = found.get(header)
        if text is not None:
            number = _whole_number(text, _MAX_BIGINT) if header in {JOB_ID, JOB_ATTEMPT} else None
            ids[name] = text if number is None else number
    return ids


def report_target(callback_url: str) -> str:
    """Where a report goes: a callback URL without a path means ``/callback``, any other is kept as it is.

    What is already percent-encoded stays; characters that no request line can hold are encoded.

    Raises:
        ValueError: It is no absolute http or https URL.
    """
    problem = f"{CALLBACK_URL} must be an absolute http(s) URL such as http://jobs-callback:12345/callback"
    try:
        parts = urlsplit(callback_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # a port or an IPv6 address that is none
        raise ValueError(problem) from error
    if not usable or not _HOST.fullmatch(parts.netloc):
        raise ValueError(problem)
    path = "/callback" if parts.path in {"", "/"} else quote(parts.path, safe=_URL_SAFE)
    return urlunsplit((parts.scheme, parts.netloc, path, quote(parts.query, safe=_URL_SAFE), ""))


def sibling(url: str, name: str) -> str:
    """The URL beside another one: its last path segment replaced."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}"))


def shown_url(url: str) -> str:
    """A URL as it may stand in a log and in ``jobs.last_error``: without a user and password, a token, or a query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that is none"
    path = "/".join("…" if _TOKEN.fullmatch(segment) else segment for segment in parts.path.split("/"))
    query = "…" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, query, ""))


def task_url(base_url: str, task_identifier: str) -> str:
    """The URL that delivers a task: ``{base_url}/{task}``, or ``{task}`` filled in where the URL holds it.

    In the host it is the task's DNS name (``dns_names.py``); elsewhere the identifier, percent-encoded as one path
    segment, in which ``:`` stays readable and ``/`` becomes ``%2F``.
    """
    encoded = quote(task_identifier, safe=":@!$&'()*+,;=-._~")
    if TASK_PLACE not in base_url:
        return f"{base_url.rstrip('/')}/{encoded}"
    host, rest = _host_and_rest(base_url)
    return host.replace(TASK_PLACE, dns_name(task_identifier)) + rest.replace(TASK_PLACE, encoded)


def has_a_host_per_task(base_url: str) -> bool:
    """Whether the tasks of this base URL live on hosts of their own: ``http://{task}.jobs.svc.cluster.local``."""
    return TASK_PLACE in _host_and_rest(base_url)[0]


def _host_and_rest(url: str) -> tuple[str, str]:
    """What stands before the path, and the path with all behind it; the URL may hold braces."""
    end = _AFTER_HOST.search(url, url.index("://") + 3)
    return (url, "") if end is None else (url[: end.start()], url[end.start() :])


def failed(status_code: int, headers: Mapping[str, str]) -> bool:
    """Whether a function's HTTP response says that the job failed: ``X-Job-Error``, or 400 and more."""
    return status_code >= 400 or headers.get(JOB_ERROR, "").lower() == "true"


def _decoded(value: bytes) -> str:
    """A header's text. UTF-8 where it is, as HTTP clients write it; else latin-1, which anything is."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _echo(found: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, found[name]) for name in ECHOED if name in found)


def _integer(found: Mapping[str, str], name: str, highest: int) -> int | None:
    text = found.get(name)
    number = _whole_number(text, highest)
    if text is not None and number is None:
        raise MalformedRequest(
            f"{name} must be a whole number from 1 to {highest}, in decimal digits; leave it out when there is none"
        )
    return number


def _whole_number(text: str | None, highest: int) -> int | None:
    """The number from 1 to ``highest`` that a text spells, else None."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > _MAX_DIGITS:
        return None
    number = int(text)
    return number if 0 < number <= highest else None


def _seconds(text: str | None) -> float | None:
    """A number of seconds above 0; what is none counts as not said."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def _seconds_to_wait(said: object) -> float | None:
    """A finite number of seconds, 0 or more, out of what a body says; what is no number says nothing."""
    if not isinstance(said, int | float) or isinstance(said, bool):
        return None
    try:
        seconds = float(said)
    except OverflowError:  # JSON has whole numbers of any length
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _uuid(found: Mapping[str, str], name: str) -> UUID | None:
    text = found.get(name)
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise MalformedRequest(
            f"{name} must be a UUID such as 5b720132-17d5-424d-9bcb-ee7b17c13d43; leave it out when there is none"
        ) from None
