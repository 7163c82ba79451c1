"""Add a job by hand: a form made from the task's JSON Schema, or JSON where nothing is known of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jobfn.dashboard.filters import is_uuid
from jobfn.dashboard.form_payload import ParsedForm, fill, fill_json
from jobfn.dashboard.forms import Form
from jobfn.dashboard.render import Pages
from jobfn.dashboard.schema_fields import Field, fields_of
from jobfn.dashboard.security import RequestContext
from jobfn.dashboard.task_discovery import Catalog, ListedTask
from jobfn.database.jobs import NewJob, enqueue
from jobfn.errors import DatabaseError
from jobfn.operations import Operations
from jobfn.telemetry import logs
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MAX_DELAY_SECONDS = 10 * 366 * 86_400.0
_MAX_INT = 2**31 - 1
#: What the jobs table takes.
MAX_KEY_CHARACTERS, MAX_QUEUE_CHARACTERS = 512, 126


@dataclass
class Draft:
    """A job that is being written.

    Attributes:
        task: The task identifier.
        listed: What its function app says of it; None where it is not known.
        fields: The form's fields; empty where the payload is written as JSON, or there is none.
        as_json: Whether the payload is written as JSON.
        form: What was sent.
        problems: What is wrong, by the name of the input.
    """

    task: str
    listed: ListedTask | None
    fields: tuple[Field, ...]
    as_json: bool
    form: Form = field(default_factory=Form)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> Mapping[str, Any]:
        """The payload's schema; one that allows everything where it is not known."""
        return self.listed.payload if self.listed is not None else {}

    @property
    def takes_nothing(self) -> bool:
        """Whether the task has no payload."""
        return self.schema.get("type") == "null"

    def problem(self, name: str) -> str | None:
        """What is wrong with an input."""
        return self.problems.get(name)

    def filled(self) -> ParsedForm:
        """The payload, and what is wrong with it."""
        if self.takes_nothing:
            return ParsedForm({})
        if self.as_json:
            return fill_json(self.form.one("payload"), self.schema)
        return fill(self.fields, self.form, self.schema)


class Enqueueing:
    """The pages that add jobs.

    Args:
        pages: What draws them.
        operations: What knows the tasks that have been seen.
        catalog: What knows the tasks that there are.
        connections: Where jobs are added.
        schema: The jobs schema.
    """

    def __init__(
        self, pages: Pages, operations: Operations, *, catalog: Catalog, connections: "asyncpg.Pool[Any]", schema: str
    ) -> None:
        self._pages = pages
        self._operations = operations
        self._catalog = catalog
        self._connections = connections
        self._schema = schema

    @property
    def routes(self) -> list[Route]:
        """Where it answers."""
        return [
            Route("/enqueue", self.show, methods=["GET"]),
            Route("/enqueue", self.add, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """``GET /enqueue``: choose a task; with ``?task=``, its form."""
        task = request.query_params.get("task", "").strip()
        if not task:
            listing = await self._catalog.all()
            seen = [name for name in await self._operations.tasks() if name not in listing.tasks]
            context = {"tasks": list(listing.tasks.values()), "seen": seen, "problems": listing.problems}
            return self._pages.answer(request, "tasks.html", context)
        draft, asked = await self._draft(task, as_json=request.query_params.get("as") == "json", form=Form())
        return self._drawn(request, draft, asked)

    async def add(self, request: Request) -> Response:
        """``POST /enqueue``: add the job, or say at each field what is wrong with it."""
        form = RequestContext.of(request).form
        draft, asked = await self._draft(form.one("task"), as_json=form.one("as") == "json", form=form)
        filled = draft.filled()
        draft.problems |= {f"payload{pointer}": problem for pointer, problem in filled.problems.items()}
        options = _options(form, draft.problems)
        if not 0 < len(draft.task) <= MAX_TASK_IDENTIFIER_CHARACTERS:
            draft.problems["task"] = f"a task's name has 1 to {MAX_TASK_IDENTIFIER_CHARACTERS} characters"
        if not draft.problems:
            try:
                job = await self._added(NewJob(draft.task, json.dumps(filled.payload, ensure_ascii=False), **options))
            except DatabaseError as error:
                draft.problems[""] = str(error)
            else:
                return RedirectResponse(f"/jobs/{job}", 303)
        return self._drawn(request, draft, asked, status_code=422)

    async def _draft(self, task: str, *, as_json: bool, form: Form) -> tuple[Draft, tuple[str, ...]]:
        listed, problems = await self._catalog.find(task)
        fields = fields_of(listed.payload) if listed is not None else ()
        is_free = listed is None or (bool(fields) and fields[0].pointer == "")
        return Draft(task, listed, () if is_free else fields, as_json or is_free, form), problems

    async def _added(self, job: NewJob) -> int:
        async with self._connections.acquire() as connection:
            added = await enqueue(connection, self._schema, job)
        logs.get_logger("jobfn.dashboard").info(
            "added a job", task=job.task, job=added, attempt=0, worker=None, tenant=job.database_id
        )
        return added

    def _drawn(self, request: Request, draft: Draft, asked: tuple[str, ...], *, status_code: int = 200) -> Response:
        context = {"draft": draft, "asked": asked, "units": UNITS, "max_attempts": NewJob(draft.task).max_attempts}
        return self._pages.answer(request, "enqueue.html", context, status_code=status_code)


def _options(form: Form, problems: dict[str, str]) -> dict[str, Any]:
    """The job's own fields, beside its payload; what is wrong with them goes into ``problems``."""
    options: dict[str, Any] = {
        "key": form.one("key") or None,
        "queue": form.one("queue") or None,
        "database_id": form.one("database_id") or None,
    }
    for name, lowest in (("priority", -_MAX_INT), ("max_attempts", 1)):
        if form.one(name):
            options[name] = number = _whole(form.one(name))
            if number is None or not lowest <= number <= _MAX_INT:
                problems[name] = "must be a whole number" + (", 1 or more" if lowest == 1 else "")
    for name, most in (("key", MAX_KEY_CHARACTERS), ("queue", MAX_QUEUE_CHARACTERS)):
        if len(options[name] or "") > most:
            problems[name] = f"has at most {most} characters"
    if not is_uuid(options["database_id"]):
        problems["database_id"] = "must be a UUID"
    seconds = _delay_seconds(form)
    if seconds is None:
        problems["delay"] = "must be a number, 0 or more, and at most ten years"
    elif seconds:
        options["run_at"] = datetime.now(UTC) + timedelta(seconds=seconds)
    return options


def _delay_seconds(form: Form) -> float | None:
    """How long the job is to wait; None where that cannot be."""
    try:
        seconds = float(form.one("delay") or 0) * _UNIT_SECONDS[form.one("delay_unit") or "s"]
    except (ValueError, KeyError):
        return None
    return seconds if 0 <= seconds <= _MAX_DELAY_SECONDS else None


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
