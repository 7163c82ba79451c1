"""Every exception of jobfn, in one tree.

::

    JobfnError
    ├── ConfigurationError          the user's settings or files are wrong: exit code 2, one line
    │   ├── TaskDefinitionError     a @task that cannot work, named by file and line
    │   ├── InvalidSchedule         a schedule that says no time, or an impossible one
    │   ├── LoadError               a functions file or module that cannot be loaded
    │   └── BlueprintError          a blueprint, or a trigger in it, that cannot work
    ├── EnqueueError                a job that cannot be added as asked; nothing was sent
    ├── GraphQLError                a GraphQL endpoint answered with errors, or not at all
    ├── ResultUnavailable               how a job ended cannot be told
    │   └── ResultTimeout                ... not yet: the time to wait for it is over
    ├── PermanentError              a handler's word: this job cannot succeed, do not try it again
    ├── RetryLater                  a handler's word: not now, try this job again after so long
    ├── RequestError                a request's sender is at fault; carries the HTTP status
    │   ├── BadRequest        400  headers or JSON that cannot be read
    │   ├── Unauthorized               401  not the worker that this function listens to
    │   ├── UnknownTask             404  no task of that name here
    │   ├── MethodNotAllowed             405
    │   ├── PayloadTooLarge            413
    │   ├── UnsupportedMediaType        415
    │   └── InvalidPayload          422  JSON of the wrong shape
    ├── TransportError              an HTTP exchange of ours that got no answer
    └── DatabaseError               what PostgreSQL, or the lack of it, told us
        ├── DatabaseUnreachable     no connection
        └── SchemaError             the jobs schema is missing, older, newer or the platform's own

Whose fault an error is stands in its type: a ``RequestError`` is answered to the caller, anything else is
logged. Read next: ``wire``, the words these errors are about.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

DOCS = "https://constructive-io.github.io/jobfn/"


class JobfnError(Exception):
    """The base of every exception that jobfn raises. Its text tells the reader what to do next.

    Attributes:
        page: The page of the documentation that explains it; a traceback shows it, below the text. None: there is
            nothing to explain beyond the text, or it is a handler's own word.
    """

    page: ClassVar[str | None] = None

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        if self.page is not None:
            self.add_note(f"docs: {self.docs_url()}")

    @classmethod
    def docs_url(cls) -> str:
        """Where it is explained."""
        return f"{DOCS}{cls.page}/" if cls.page is not None else f"{DOCS}reference/errors/#{cls.__name__.lower()}"


class ConfigurationError(JobfnError):
    """Settings, a command's arguments or a user's file are wrong; nothing was started or changed."""

    page = "reference/settings"


class TaskDefinitionError(ConfigurationError):
    """A ``@task`` has an impossible name or signature. The text names the file and the line."""

    page = "tutorial"


class InvalidSchedule(ConfigurationError):
    """A ``schedule_info`` that cannot be read. The text names the key or the field, and what it holds."""

    page = "schedules"


class LoadError(ConfigurationError):
    """A functions file or module cannot be imported, or holds no task."""

    page = "tutorial"


class BlueprintError(ConfigurationError):
    """A blueprint cannot be read, or a trigger in it cannot work on its table. Names table, node and parameter."""

    page = "triggers"


class EnqueueError(JobfnError):
    """A job cannot be added as asked: an option, the payload or the connection is wrong. Nothing was sent."""

    page = "how-to/enqueue"


class GraphQLError(JobfnError):
    """A GraphQL endpoint answered with errors, or not at all.

    Args:
        message: What happened, with the endpoint.
        errors: The errors as the endpoint told them; empty where it did not answer.
    """

    page = "how-to/tenants"

    def __init__(self, message: str, *, errors: Sequence[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.errors = list(errors or ())


class ResultUnavailable(JobfnError):
    """How a job ended, or what its handler returned, cannot be told. The text says why, and what would help."""

    page = "how-to/results"


class ResultTimeout(ResultUnavailable, TimeoutError):
    """The job had not ended within the time that was given. It is waited for no longer, and runs on."""


class PermanentError(JobfnError):
    """Raise it in a handler: the job cannot succeed and is not tried again. Its row stays, with this reason."""


class RetryLater(JobfnError):
    """Raise it in a handler: not now, again later. The attempt counts.

    Args:
        message: Why; kept as the job's last error.
        seconds: After how long, in seconds, 0 or more.

    Raises:
        ValueError: ``seconds`` is negative or no finite number.
    """

    def __init__(self, message: str = "to be tried again later", *, seconds: float) -> None:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"RetryLater(seconds={seconds!r}): give a finite number of seconds, 0 or more")
        super().__init__(message)
        self.seconds = float(seconds)


class RequestError(JobfnError):
    """The sender of a request is at fault.

    Args:
        message: What is wrong and what would be right. It is sent to the caller, so it never holds a
            payload's values.
        details: Where in the payload, one ``{"field": ..., "problem": ...}`` per mismatch.
    """

    status_code = 400

    def __init__(self, message: str, *, details: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)


class BadRequest(RequestError):
    """Job headers or JSON that cannot be read (HTTP 400)."""


class Unauthorized(RequestError):
    """The caller does not know ``JOBFN_INVOKE_SECRET`` (HTTP 401). Nothing is run and nothing reported."""

    status_code = 401


class UnknownTask(RequestError):
    """No task of that identifier is here (HTTP 404)."""

    status_code = 404


class MethodNotAllowed(RequestError):
    """A task is asked for by something else than POST (HTTP 405)."""

    status_code = 405


class PayloadTooLarge(RequestError):
    """The body is over ``JOBFN_MAX_BODY_BYTES`` (HTTP 413)."""

    status_code = 413


class UnsupportedMediaType(RequestError):
    """The body is not declared as JSON (HTTP 415)."""

    status_code = 415


class InvalidPayload(RequestError):
    """Valid JSON that does not fit the task's payload annotation (HTTP 422)."""

    page = "how-to/enqueue"

    status_code = 422


class TransportError(JobfnError):
    """An HTTP request of ours got no answer: refused, reset, cut short or timed out. Names the URL."""


class DatabaseError(JobfnError):
    """PostgreSQL refused a statement, or could not be asked. Raised ``from`` the driver's own error."""

    page = "operations"


class DatabaseUnreachable(DatabaseError):
    """No connection could be made with the address that the text names."""


class SchemaError(DatabaseError):
    """The jobs schema is missing, out of date, newer than this jobfn, or not jobfn's to change."""
