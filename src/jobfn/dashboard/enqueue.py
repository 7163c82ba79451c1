"""The pages that enqueue a job by hand, with a form or a JSON editor built from the task's JSON Schema."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jobfn.dashboard.filters import is_uuid
from jobfn.dashboard.form_payload import PAYLOAD_INPUT, ParsedForm, parse_fields, parse_json
from jobfn.dashboard.forms import Form
from jobfn.dashboard.limits import LimitExceeded, run_limited
from jobfn.dashboard.render import Pages
from jobfn.dashboard.schema_errors import NO_DESCRIPTION, PayloadDescription, describe_payload
from jobfn.dashboard.schema_fields import Field
from jobfn.dashboard.security import RequestContext, actor
from jobfn.dashboard.task_discovery import ListedTask, TaskDiscovery
from jobfn.database.enqueue import enqueue
from jobfn.database.permissions import explain_denied
from jobfn.database.records import NewJob
from jobfn.errors import DatabaseError
from jobfn.operations import Operations
from jobfn.telemetry import logs
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MAX_DELAY_SECONDS: Final = 10 * 366 * 86_400.0
_MAX_INT: Final = 2**31 - 1
#: Limits of the jobs table.
MAX_KEY_CHARACTERS: Final = 512
MAX_QUEUE_CHARACTERS: Final = 126


@dataclass
class EnqueueForm:
    """The state of the enqueue form.

    Attributes:
        task: Task identifier.
        listed: Description of the task; None if no function app lists it.
        description: The payload's schema, fields and example.
        as_json: Whether the payload is edited as JSON.
        form: Submitted values.
        problems: Validation errors, by input name; ``""`` for the whole form.
    """

    task: str
    listed: ListedTask | None
    description: PayloadDescription
    as_json: bool
    form: Form
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[Field, ...] | None:
        """Fields of the payload; None if it can only be edited as JSON."""
        return self.description.fields

    @property
    def has_no_payload(self) -> bool:
        """Whether the task takes no payload."""
        return self.description.schema.get("type") == "null"

    @property
    def json_text(self) -> str:
        """Text of the JSON editor: the submitted text, or an example."""
        if self.form.values:
            return self.form.one(PAYLOAD_INPUT)
        return self.description.example

    def value(self, payload_field: Field) -> str:
        """Return the submitted value of a field, or its initial value."""
        return self.form.one(payload_field.input_name) if self.form.values else payload_field.value

    def problem(self, name: str) -> str | None:
        """Return the validation error of an input."""
        return self.problems.get(name)

    async def parse(self) -> ParsedForm:
        """Return the submitted payload and its validation errors."""
        schema = self.description.schema
        if self.has_no_payload:
            return ParsedForm({})
        try:
            if self.as_json or self.fields is None:
                return await run_limited(parse_json, self.form.one(PAYLOAD_INPUT), schema)
            return await run_limited(parse_fields, self.fields, self.form, schema)
        except LimitExceeded as error:
            return ParsedForm(problems={"": f"the payload cannot be checked against the task's schema: {error}"})


class EnqueuePages:
    """The pages that enqueue jobs."""

    def __init__(
        self,
        pages: Pages,
        operations: Operations,
        *,
        discovery: TaskDiscovery,
        connections: "asyncpg.Pool[Any]",
        schema: str,
    ) -> None:
        self._pages = pages
        self._operations = operations
        self._discovery = discovery
        self._connections = connections
        self._schema = schema

    @property
    def routes(self) -> list[Route]:
        """Routes of the pages."""
        return [Route("/enqueue", self.show, methods=["GET"]), Route("/enqueue", self.submit, methods=["POST"])]

    async def show(self, request: Request) -> Response:
        """Handle ``GET /enqueue``: list the tasks; with ``?task=``, show the form of a task."""
        task = request.query_params.get("task", "").strip()
        if not task:
            listing = await self._discovery.list_tasks()
            unlisted = [name for name in await self._operations.tasks() if name not in listing.tasks]
            context = {"tasks": list(listing.tasks.values()), "unlisted": unlisted, "problems": listing.problems}
            return self._pages.respond(request, "tasks.html", context)
        enqueue_form, notices = await self._load_form(
            task, as_json=request.query_params.get("as") == "json", form=Form()
        )
        return self._respond(request, enqueue_form, notices)

    async def submit(self, request: Request) -> Response:
        """Handle ``POST /enqueue``: enqueue the job, or show the form with its validation errors."""
        form = RequestContext.from_request(request).form
        enqueue_form, notices = await self._load_form(form.one("task"), as_json=form.one("as") == "json", form=form)
        parsed = await enqueue_form.parse()
        problems = enqueue_form.problems
        problems |= parsed.problems
        options = _job_options(form, problems)
        if not 0 < len(enqueue_form.task) <= MAX_TASK_IDENTIFIER_CHARACTERS:
            problems["task"] = f"a task identifier must have 1 to {MAX_TASK_IDENTIFIER_CHARACTERS} characters"
        if not problems:
            payload = json.dumps(parsed.payload, ensure_ascii=False)
            try:
                job_id = await self._enqueue(NewJob(enqueue_form.task, payload, **options), by=actor(request))
            except DatabaseError as error:
                problems[""] = str(error)
            else:
                return RedirectResponse(f"/jobs/{job_id}", 303)
        return self._respond(request, enqueue_form, notices, status_code=422)

    async def _load_form(self, task: str, *, as_json: bool, form: Form) -> tuple[EnqueueForm, tuple[str, ...]]:
        """Return the form of a task, and why no function app lists it."""
        listed, notices = await self._discovery.find_task(task)
        description = NO_DESCRIPTION
        if listed is not None:
            try:
                description = await run_limited(describe_payload, listed.payload)
            except LimitExceeded as error:
                notices = (*notices, f"the task's schema cannot be read: {error}")
        return EnqueueForm(task, listed, description, as_json or description.fields is None, form), notices

    async def _enqueue(self, job: NewJob, *, by: str) -> int:
        async with (
            self._connections.acquire() as connection,
            explain_denied(connection, self._schema, grant="enqueue"),
        ):
            job_id = await enqueue(connection, self._schema, job)
        logs.get_logger("jobfn.dashboard").info(
            "job enqueued", task=job.task, job=job_id, attempt=0, worker=None, tenant=job.database_id, by=by
        )
        return job_id

    def _respond(
        self, request: Request, enqueue_form: EnqueueForm, notices: tuple[str, ...], *, status_code: int = 200
    ) -> Response:
        context = {"enqueue": enqueue_form, "notices": notices, "units": UNITS}
        return self._pages.respond(request, "enqueue.html", context, status_code=status_code)


def _job_options(form: Form, problems: dict[str, str]) -> dict[str, Any]:
    """Parse the fields of the job besides its payload; add validation errors to ``problems``."""
    options: dict[str, Any] = {
        "key": form.one("key") or None,
        "queue": form.one("queue") or None,
        "database_id": form.one("database_id") or None,
    }
    for name, minimum in (("priority", -_MAX_INT), ("max_attempts", 1)):
        if form.one(name):
            options[name] = number = _parse_int(form.one(name))
            if number is None or not minimum <= number <= _MAX_INT:
                problems[name] = "must be an integer" + (", 1 or more" if minimum == 1 else "")
    for name, maximum in (("key", MAX_KEY_CHARACTERS), ("queue", MAX_QUEUE_CHARACTERS)):
        if len(options[name] or "") > maximum:
            problems[name] = f"must have at most {maximum} characters"
    if not is_uuid(options["database_id"]):
        problems["database_id"] = "must be a UUID"
    _add_times(form, options, problems)
    return options


def _add_times(form: Form, options: dict[str, Any], problems: dict[str, str]) -> None:
    now = datetime.now(UTC)
    for name, option in (("delay", "run_at"), ("expiry", "expires_at")):
        seconds = _seconds(form, name)
        if seconds is None:
            problems[name] = "must be a number from 0 to ten years"
        elif seconds:
            options[option] = now + timedelta(seconds=seconds)
    if {"run_at", "expires_at"} <= options.keys() and options["expires_at"] <= options["run_at"]:
        problems["expiry"] = "must be longer than the time until it runs"


def _seconds(form: Form, name: str) -> float | None:
    """Return the seconds in a field and its unit, 0 if it is empty; None if it is invalid."""
    try:
        seconds = float(form.one(name) or 0) * _UNIT_SECONDS[form.one(f"{name}_unit") or "s"]
    except (ValueError, KeyError):
        return None
    return seconds if 0 <= seconds <= _MAX_DELAY_SECONDS else None


def _parse_int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
