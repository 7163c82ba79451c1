"""Every exception of jobfn, in one tree.

::

    JobfnError
    ├── ConfigurationError          invalid settings, arguments or files; exit code 2
    │   ├── TaskDefinitionError     invalid @task name or signature
    │   ├── InvalidSchedule         schedule that cannot be parsed or never runs
    │   ├── LoadError               functions file or module that cannot be imported
    │   └── BlueprintError          blueprint that cannot be parsed or applied
    ├── EnqueueError                job that was not enqueued
    │   └── DuplicateJob            unique job that exists
    ├── GraphQLError                GraphQL endpoint returned errors or did not respond
    ├── ResultUnavailable           result of a job is not stored
    │   ├── ResultTimeout           job did not finish in time
    │   ├── JobCancelled            job was cancelled
    │   └── JobExpired              job was not started in time
    ├── PermanentError              raised by a handler: fail the job, do not retry
    │   ├── DurableError            durable call that is invalid, or not possible here
    │   ├── WaitTimeout             no signal came in time
    │   ├── ChildFailed             child job has failed permanently
    │   └── PermanentStepFailure    step has failed permanently (also a StepFailed)
    ├── StepFailed                  step has failed, and is tried again with the job
    ├── RetryLater                  raised by a handler: snooze, that is retry after a delay
    ├── RequestError           400  invalid request to a function
    │   ├── BadRequest         400  malformed job headers or JSON
    │   ├── Unauthorized       401  missing or wrong invoke secret
    │   ├── UnknownTask        404  no such task in this function
    │   ├── MethodNotAllowed   405  method other than POST
    │   ├── PayloadTooLarge    413  body over the size limit
    │   ├── UnsupportedMediaType 415  body not declared as JSON
    │   └── InvalidPayload     422  payload does not match its annotation
    ├── TransportError              HTTP request without a response
    │   └── RequestNotSent          no connection, or an invalid URL
    └── DatabaseError               PostgreSQL returned an error
        ├── PermissionDenied        the role lacks a right
        ├── DatabaseUnreachable     no connection
        └── SchemaError             jobs schema missing or incompatible

A ``RequestError`` is the caller's fault and is sent to the caller. Every other exception is logged.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

DOCS_URL = "https://constructive-io.github.io/jobfn/"


class JobfnError(Exception):
    """Base of every exception that jobfn raises. The message says what to do next.

    Attributes:
        code: Stable code of the error, for ``jobfn explain CODE``.
        page: Documentation page about this error, shown below the message in a traceback. None for errors that need no
            more explanation than their message.
    """

    code: ClassVar[str] = "J100"
    page: ClassVar[str | None] = None

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        if self.page is not None:
            self.add_note(f"docs: {self.docs_url()}")

    @classmethod
    def docs_url(cls) -> str:
        """Return the URL of the documentation about this error."""
        return (
            f"{DOCS_URL}{cls.page}/" if cls.page is not None else f"{DOCS_URL}reference/errors/#{cls.__name__.lower()}"
        )


class ConfigurationError(JobfnError):
    """Settings, command arguments or a user's file are invalid. Nothing was started or changed.

    Correct the setting or file that the message names. Commands exit with code 2.
    """

    code = "J101"
    page = "reference/settings"


class TaskDefinitionError(ConfigurationError):
    """A ``@task`` has an invalid name or signature. Correct it at the file and line in the message."""

    code = "J102"
    page = "tutorial"


class InvalidSchedule(ConfigurationError):
    """A schedule cannot be parsed, or never runs. Correct the key or field that the message quotes."""

    code = "J103"
    page = "schedules"


class LoadError(ConfigurationError):
    """A functions file or module cannot be imported, or defines no task. Correct the import error or the path."""

    code = "J104"
    page = "tutorial"


class BlueprintError(ConfigurationError):
    """A blueprint cannot be parsed, or a trigger in it cannot work on its table.

    Correct the table, node or parameter that the message names.
    """

    code = "J105"
    page = "triggers"


class EnqueueError(JobfnError):
    """A job was not enqueued: an option, the payload or the connection is invalid. Nothing was sent.

    Correct the argument that the message names.
    """

    code = "J106"
    page = "how-to/enqueue"


class DuplicateJob(EnqueueError):
    """A job with the same task, tenant and compared fields exists, and ``on_conflict`` is ``"error"``.

    Nothing was added. Use the existing job, or enqueue with ``on_conflict="keep"``.

    Attributes:
        job_id: The existing job; None for a duplicate among many, which the message names.
    """

    code = "J124"
    page = "how-to/unique-jobs"

    def __init__(self, message: str, *, job_id: int | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class GraphQLError(JobfnError):
    """A GraphQL endpoint returned errors, or did not respond. Check the query, or retry the job.

    Args:
        message: What happened, with the endpoint.
        errors: The ``errors`` of the response; empty if there was no response.
    """

    code = "J107"
    page = "how-to/tenants"

    def __init__(self, message: str, *, errors: Sequence[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.errors = list(errors or ())


class ResultUnavailable(JobfnError):
    """The state or result of a job is not stored. The message says why, and which option stores it."""

    code = "J108"
    page = "how-to/results"


class ResultTimeout(ResultUnavailable, TimeoutError):
    """The job did not finish within the timeout. It continues to run; wait again or use a longer timeout."""

    code = "J109"


class JobCancelled(ResultUnavailable):
    """The job was cancelled, so it has no result. The message has the reason that was given."""

    code = "J125"
    page = "how-to/cancel-jobs"


class JobExpired(ResultUnavailable):
    """The job was not started before its expiry, so it has no result. Enqueue it again, or with a later expiry."""

    code = "J126"


class PermanentError(JobfnError):
    """Raise it in a handler to fail the job without a retry. The job keeps the message as its last error."""

    code = "J110"


class DurableError(PermanentError):
    """A durable call is invalid, or not possible on this platform. The job is not retried; correct the call."""

    code = "J114"
    page = "durable"


class WaitTimeout(PermanentError, TimeoutError):
    """No signal came before the timeout of ``ctx.wait_for``. Catch it to go on without the signal."""

    code = "J115"
    page = "durable"


class StepFailed(JobfnError):
    """A step of a durable function raised an exception, its ``__cause__``. Uncaught, the job's retries try it again.

    Args:
        step: The step's name.
        reason: The message of the exception.
        error_type: The name of its type.
    """

    code = "J116"
    page = "durable"

    def __init__(self, step: str, reason: str, error_type: str) -> None:
        super().__init__(f"step {step!r} failed: {reason}")
        self.step = step
        self.reason = reason
        self.error_type = error_type


class PermanentStepFailure(StepFailed, PermanentError):
    """A step has failed permanently: with a ``PermanentError``, after its own retries, or in an earlier delivery."""

    code = "J117"
    page = "durable"


class ChildFailed(PermanentError):
    """A child job has failed permanently, or was cancelled or removed. Catch it to go on without its result.

    Args:
        step: The name of the call.
        reason: The child's last error.
    """

    code = "J118"
    page = "durable"

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step = step


class RetryLater(JobfnError):
    """Raise it in a handler to retry the job after a delay: a snooze, which does not count as an attempt.

    Args:
        message: Reason; kept as the job's last error.
        seconds: Delay in seconds, 0 or more.
        max_age_seconds: The job fails permanently if its first snooze is longer ago than this. Default: a week.
        counts: Whether the attempt counts, so that the job fails permanently after ``max_attempts``. Default False.

    Raises:
        ValueError: A number of seconds is out of range.
    """

    code = "J111"

    def __init__(
        self,
        message: str = "retry later",
        *,
        seconds: float,
        max_age_seconds: float = 7 * 86_400.0,
        counts: bool = False,
    ) -> None:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"RetryLater(seconds={seconds!r}) is not valid: use a finite number of seconds, 0 or more")
        if not 0 < max_age_seconds < math.inf:
            raise ValueError(
                f"RetryLater(max_age_seconds={max_age_seconds!r}) is not valid: use a finite number of seconds above 0"
            )
        super().__init__(message)
        self.seconds = float(seconds)
        self.max_age_seconds = float(max_age_seconds)
        self.counts = counts


class RequestError(JobfnError):
    """A request to a function is invalid (HTTP 400). Correct the request; sending it again does not help.

    Args:
        message: What is wrong and what is expected. It is sent to the caller, so it must not contain payload values.
        details: One ``{"field": ..., "problem": ...}`` for each invalid field of the payload.
    """

    code = "F400"
    status_code = 400

    def __init__(self, message: str, *, details: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)


class BadRequest(RequestError):
    """Job headers or JSON are malformed (HTTP 400). Correct the header or the body that the message names."""


class Unauthorized(RequestError):
    """The invoke secret is missing or wrong (HTTP 401). No handler runs and nothing is reported.

    Set ``JOBFN_INVOKE_SECRET`` to the same value on the worker and on the function; if the worker has
    ``JOBFN_INVOKE_KEY``, to what ``jobfn invoke-secret URL`` prints.
    """

    code = "F401"
    status_code = 401


class UnknownTask(RequestError):
    """The function has no task of that identifier (HTTP 404). Correct the path or the worker's function URL."""

    code = "F404"
    status_code = 404


class MethodNotAllowed(RequestError):
    """A task was called with another method than POST (HTTP 405). Use POST."""

    code = "F405"
    status_code = 405


class PayloadTooLarge(RequestError):
    """The body is larger than ``JOBFN_MAX_BODY_BYTES`` (HTTP 413). Send a reference to the data instead."""

    code = "F413"
    status_code = 413


class UnsupportedMediaType(RequestError):
    """The body is not declared as JSON (HTTP 415). Send ``Content-Type: application/json``."""

    code = "F415"
    status_code = 415


class InvalidPayload(RequestError):
    """The payload does not match the task's annotation (HTTP 422). Correct the fields in ``details``."""

    code = "F422"
    page = "how-to/enqueue"

    status_code = 422


class TransportError(JobfnError):
    """An HTTP request got no response: refused, reset, cut short or timed out. Check the URL in the message."""

    code = "J112"


class RequestNotSent(TransportError):
    """An HTTP request was not sent: no connection could be opened, or the URL is invalid. Check it in the message."""

    code = "J113"


class DatabaseError(JobfnError):
    """PostgreSQL returned an error or did not respond. The driver's error is the ``__cause__``."""

    code = "J120"
    page = "operations"


class PermissionDenied(DatabaseError):
    """The database role lacks a right. Run the command that the message names, or connect as another role.

    Args:
        problem: The role and the missing right.
        advice: What grants the right.
    """

    code = "J123"
    page = "security"

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}: {advice}")
        self.problem = problem
        self.advice = advice


class DatabaseUnreachable(DatabaseError):
    """No connection could be opened. Check the address in the message and whether PostgreSQL is running."""

    code = "J121"


class SchemaError(DatabaseError):
    """The jobs schema is missing, outdated, newer than this jobfn, or owned by the platform.

    Run ``jobfn db migrate``, or upgrade jobfn, as the message says.
    """

    code = "J122"


def error_text(error: BaseException) -> str:
    """Return an exception's text, or its type if it has none: an exception itself is always true."""
    text = str(error)
    if text.strip():
        return text
    return "no response in time" if isinstance(error, TimeoutError) else type(error).__name__
