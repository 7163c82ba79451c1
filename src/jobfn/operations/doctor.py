"""Checks of ``jobfn doctor``: database, workers, callback server and functions.

No check changes anything or runs a handler. A function is asked for its tasks (GET). jobfn's own functions also get a
PUT, which they reject and, as every rejection, report: this shows whether they reach the callback server.
"""

import functools
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import asyncpg
import httpx

from jobfn.database.horizon import HorizonHolder, horizon_holders
from jobfn.database.migrate import SchemaKind, prerelease_message, status
from jobfn.database.statements import query
from jobfn.errors import ConfigurationError, DatabaseUnreachable, PermissionDenied, Unauthorized, error_text
from jobfn.http.bounded import MAX_LIST_BYTES, request
from jobfn.http.client import Response
from jobfn.operations.operations import Operations
from jobfn.operations.troubles import TroubleKind, join_names
from jobfn.wire import CALLBACK_URL, JOB_ID, WORKER_ID, redact_url, report_url
from jobfn.wire.names import DOCTOR_WORKER_ID
from jobfn.worker.function_urls import load_routes
from jobfn.worker.listen_url import POOLER_ADVICE, POOLER_PROBLEM, lacks_notifications
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceRole, ServiceSettings

#: Maximum difference between the clocks: leases and ``run_at`` are in the database's time.
MAX_CLOCK_SKEW_SECONDS = 2.0
#: A function that cannot report responds only after its ``report_wait_seconds``, 2 by default.
SLOW_REPORT_SECONDS = 1.8
#: An id that no job has, so that a report on it changes nothing.
UNUSED_JOB_ID = 2**63 - 1
#: Maximum number of old transactions in a message.
MAX_HOLDERS = 5
#: Name of the check for the rights to look.
RIGHTS = "rights"
_request = functools.partial(request, timeout_seconds=10.0, max_bytes=MAX_LIST_BYTES)
_REQUEST_ERRORS = (httpx.HTTPError, httpx.InvalidURL)


class CheckStatus(StrEnum):
    """Status of a check."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Check:
    """Result of a check, with advice on what to do unless the status is ``OK``."""

    name: str
    status: CheckStatus
    message: str
    advice: str = ""


#: Names and statuses of the checks for those troubles that have no check of their own.
_TROUBLE_CHECKS = {
    TroubleKind.DISK_FULL: ("disk", CheckStatus.ERROR),
    TroubleKind.SILENT_WORKER: ("heartbeats", CheckStatus.WARNING),
}


async def run_checks(
    pool: "asyncpg.Pool[Any]",
    operations: Operations | PermissionDenied | None,
    settings: ServiceSettings,
    http: httpx.AsyncClient,
    *,
    clock: Callable[[], float] = time.perf_counter,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Check]:
    """Run all checks, one after the other.

    Without operations (no usable schema), only those of the database run. With the error of a role that may not look,
    those that need no rights run. A missing right is a warning.
    """
    yield await _check_schema(pool, settings.schema_name)
    yield await _check_clocks(pool, settings.schema_name, now)
    if (notifications := await _check_notifications(pool, settings)) is not None:
        yield notifications
    if operations is None:
        return
    yield horizon_check(await horizon_holders(pool, settings.schema_name))
    tasks: Iterable[str] = ()
    if isinstance(operations, PermissionDenied):
        yield _warn(RIGHTS, operations)
    else:
        try:
            for check in await _check_processes(operations):
                yield check
            for check in await _check_troubles(operations):
                yield check
        except PermissionDenied as error:
            yield _warn("worker", error)
        try:
            tasks = await operations.tasks()
        except PermissionDenied as error:
            yield _warn("functions", error)
    yield await _check_callback_server(http, settings)
    try:
        routes = await load_routes(settings, pool)
    except ConfigurationError as error:
        yield Check("function definitions", CheckStatus.ERROR, str(error), "correct JOBS_FUNCTION_DEFINITIONS")
        routes = Routes.from_settings(settings)
    tasks = {*tasks, *routes.by_task, *routes.registered, *settings.supported}
    async for check in _check_functions(http, tasks, settings, routes, clock):
        yield check


def _warn(name: str, error: PermissionDenied) -> Check:
    return Check(name, CheckStatus.WARNING, error.problem, error.advice)


async def _check_schema(pool: "asyncpg.Pool[Any]", schema: str) -> Check:
    name = "schema"
    try:
        async with pool.acquire() as connection:
            schema_status = await status(connection, schema)
    except PermissionDenied as error:
        return _warn(name, error)
    problem = advice = ""
    if schema_status.kind is SchemaKind.ABSENT:
        problem, advice = f"schema {schema} does not exist", "run `jobfn db migrate`, or set JOBS_SCHEMA"
    elif schema_status.unknown:
        problem, advice = f"schema {schema} is newer than this jobfn", "upgrade jobfn here"
    elif schema_status.kind is SchemaKind.PRERELEASE:
        problem, _, advice = prerelease_message(schema).partition(": ")
    elif schema_status.pending:
        missing = ", ".join(f"{step.version:04d} {step.name}" for step in schema_status.pending)
        problem, advice = f"schema {schema} lacks {missing}", "run `jobfn db migrate`"
    if problem:
        return Check(name, CheckStatus.ERROR, problem, advice)
    if schema_status.kind is SchemaKind.PLATFORM:
        return Check(name, CheckStatus.OK, f"schema {schema} is the platform's own, which jobfn supports as it is")
    count = len(schema_status.migrations)
    return Check(name, CheckStatus.OK, f"schema {schema} is up to date: {count} migrations")


async def _check_clocks(pool: "asyncpg.Pool[Any]", schema: str, now: Callable[[], datetime]) -> Check:
    async with pool.acquire() as connection:
        before = now()
        database_time = await connection.fetchval(query("clock", schema))
        after = now()
    skew_seconds = max((database_time - after).total_seconds(), (before - database_time).total_seconds(), 0.0)
    if skew_seconds > MAX_CLOCK_SKEW_SECONDS:
        direction = "ahead of" if database_time > after else "behind"
        return Check(
            "clocks",
            CheckStatus.ERROR,
            f"the database's clock is {skew_seconds:.1f} seconds {direction} this machine's",
            "synchronize both with a time server (chrony, systemd-timesyncd)",
        )
    return Check("clocks", CheckStatus.OK, "the database's clock and this machine's agree")


async def _check_notifications(pool: "asyncpg.Pool[Any]", settings: ServiceSettings) -> Check | None:
    """Check that no pooler keeps notifications away. None: they need no further setting."""
    name = "notifications"
    try:
        if await lacks_notifications(pool, settings):
            seconds = f"{settings.poll_interval_seconds:g} seconds (JOBS_POLL_INTERVAL_SECONDS)"
            return Check(name, CheckStatus.WARNING, f"{POOLER_PROBLEM}, up to {seconds}", POOLER_ADVICE)
    except DatabaseUnreachable as error:
        return Check(name, CheckStatus.ERROR, f"JOBS_LISTEN_URL: {error}", POOLER_ADVICE)
    return None if settings.listen_url is None else Check(name, CheckStatus.OK, "JOBS_LISTEN_URL has a session")


def horizon_check(holders: Sequence[HorizonHolder]) -> Check:
    """Check that nothing keeps vacuum from removing the rows of ended jobs."""
    name = "oldest transaction"
    if old := [holder for holder in holders if holder.is_old]:
        message = f"vacuum cannot remove the rows of ended jobs: {'; '.join(map(str, old[:MAX_HOLDERS]))}"
        return Check(name, CheckStatus.WARNING, message, old[0].advice)
    return Check(name, CheckStatus.OK, str(holders[0]) if holders else "no transaction is open")


async def _check_processes(operations: Operations) -> list[Check]:
    """Check that there is a worker, and a scheduler if there are schedules."""
    workers = [worker for worker in await operations.workers() if worker.is_alive is not False]
    start = "start `jobfn service` where the functions can be reached, or `jobfn dev functions.py`"
    if operations.capabilities.is_platform:
        if workers:
            names = ", ".join(worker.id for worker in workers)
            return [Check("worker", CheckStatus.OK, f"jobs are held by {names}")]
        message = "no worker holds a job now; the platform's own schema shows no more than that"
        return [Check("worker", CheckStatus.WARNING, message, f"if jobs stay ready, {start}")]
    by_role = {role: [worker.id for worker in workers if role.value in worker.roles] for role in ServiceRole}
    unregistered = [worker.id for worker in workers if not worker.is_registered]
    checks = []
    if names := ", ".join([*by_role[ServiceRole.WORKER], *unregistered]):
        checks.append(Check("worker", CheckStatus.OK, f"running: {names}"))
    else:
        checks.append(Check("worker", CheckStatus.ERROR, "no worker is running", start))
    rows = [view.row for view in await operations.schedules(limit=1)]
    schedules = len(rows)
    if paused := [row for row in rows if row.paused_at is not None]:
        message = f"paused, so that they make no jobs: {join_names([f'{row.task} (id {row.id})' for row in paused])}"
        checks.append(Check("schedules", CheckStatus.WARNING, message, "end a pause with `jobfn schedules resume ID`"))
    if schedules and (names := ", ".join(by_role[ServiceRole.SCHEDULER])):
        checks.append(Check("scheduler", CheckStatus.OK, f"running: {names}"))
    elif schedules:
        message = (
            f"there {'is 1 schedule' if schedules == 1 else f'are {schedules} schedules'}, but no running scheduler"
        )
        advice = f"{start}; if it runs with --only, add --only scheduler to one"
        checks.append(Check("scheduler", CheckStatus.ERROR, message, advice))
    return checks


async def _check_troubles(operations: Operations) -> list[Check]:
    """Return the checks that fail: of the disk, the heartbeats and the pauses."""
    checks = [
        Check(*_TROUBLE_CHECKS[trouble.kind], trouble.message, trouble.advice)
        for trouble in await operations.troubles()
        if trouble.kind in _TROUBLE_CHECKS
    ]
    if pauses := await operations.pauses():
        message = f"jobs wait for pauses: {join_names(list(map(str, pauses)), '; ')}"
        advice = "end them with `jobfn resume`, if they are not intended"
        checks.append(Check("pauses", CheckStatus.WARNING, message, advice))
    return checks


async def _check_callback_server(http: httpx.AsyncClient, settings: ServiceSettings) -> Check:
    """Send a POST without a job id, which the callback server treats as a probe (contract, section 2)."""
    name = "callback URL"
    try:
        url = report_url(settings.callback_url)
    except ValueError as error:
        return Check(name, CheckStatus.ERROR, str(error), "set INTERNAL_JOBS_CALLBACK_URL to such a URL")
    try:
        response = await _request(http, "POST", url, content=b"{}", headers={"Content-Type": "application/json"})
    except _REQUEST_ERRORS as error:
        return Check(
            name,
            CheckStatus.ERROR,
            f"{redact_url(url)} cannot be reached from here: {error_text(error)}",
            "start the callback server (`jobfn service`), and set INTERNAL_JOBS_CALLBACK_URL to where functions reach "
            "it; if only the functions can resolve that name, run doctor where they run",
        )
    if response.status >= 500:
        return Check(
            name,
            CheckStatus.ERROR,
            f"{redact_url(url)} responded with {response.status}",
            "see the log of the callback server; a gateway in front of it responds with 502 to 504 if it is not there",
        )
    return Check(name, CheckStatus.OK, f"{redact_url(url)} responds")


async def _check_functions(
    http: httpx.AsyncClient,
    tasks: Collection[str],
    settings: ServiceSettings,
    routes: Routes,
    clock: Callable[[], float],
) -> AsyncIterator[Check]:
    if not tasks:
        yield Check(
            "functions",
            CheckStatus.WARNING,
            "no function was checked: no job, no attempt and no setting names a task",
            "add a job (`jobfn enqueue TASK`), or list tasks in JOBS_SUPPORTED, and run doctor again",
        )
    checked_apps: set[str] = set()
    for task in sorted(tasks):
        check, is_jobfn_app = await _check_function(http, task, routes)
        yield check
        if is_jobfn_app and (index_url := routes.index_url(task)) not in checked_apps:
            checked_apps.add(index_url)
            yield await _check_reports(http, task, settings, routes, clock)


async def _check_function(http: httpx.AsyncClient, task: str, routes: Routes) -> tuple[Check, bool]:
    """Check that the function of a task responds. The second value says whether it is a jobfn app that can be asked."""
    name = f"function {task}"
    url, index_url = routes.url_for(task), routes.index_url(task)
    set_url = "set KNATIVE_SERVICE_URL, or INTERNAL_GATEWAY_DEVELOPMENT_MAP for this task, to its URL"
    try:
        response = await _request(http, "GET", url, headers=routes.invoke_headers(url))
        index = await _request(http, "GET", index_url, headers=routes.invoke_headers(index_url))
    except _REQUEST_ERRORS as error:
        message = f"{redact_url(url)} cannot be reached: {error_text(error)}"
        return Check(name, CheckStatus.ERROR, message, f"start the function, or {set_url}"), False
    if response.status in {502, 503, 504}:
        message = f"{redact_url(url)} responded with {response.status}: the gateway does not reach the function"
        return Check(name, CheckStatus.ERROR, message, f"start the function, or {set_url}"), False
    if index.status == Unauthorized.status_code and Unauthorized.code.encode() in index.body:
        message = f"{redact_url(index_url)} refuses the invoke secret of these settings"
        advice = "set JOBFN_INVOKE_SECRET, or JOBFN_INVOKE_KEY, to the worker's value; if jobs fail too, see F401"
        return Check(name, CheckStatus.ERROR, message, advice), False
    tasks = _tasks_in_index(index)
    if tasks is None:
        return Check(name, CheckStatus.OK, f"{redact_url(url)} responds ({response.status})"), False
    if task not in tasks:
        message = f"{redact_url(url)} responds, but the app there has only {', '.join(sorted(tasks)) or 'no tasks'}"
        return Check(name, CheckStatus.ERROR, message, f"deploy the task there, or {set_url}"), True
    return Check(name, CheckStatus.OK, f"{redact_url(url)} responds and has the task"), True


def _tasks_in_index(response: Response) -> set[str] | None:
    """Return the tasks that a jobfn app lists at its root; None if it is another app."""
    try:
        return {str(task["identifier"]) for task in json.loads(response.body)["tasks"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


async def _check_reports(
    http: httpx.AsyncClient, task: str, settings: ServiceSettings, routes: Routes, clock: Callable[[], float]
) -> Check:
    """Check that a jobfn app reaches the callback server: it reports a rejection before it responds."""
    url = routes.url_for(task)
    name = f"reports from {redact_url(routes.index_url(task))}"
    try:
        target = report_url(settings.callback_url)
    except ValueError as error:
        return Check(name, CheckStatus.ERROR, str(error), "set INTERNAL_JOBS_CALLBACK_URL to such a URL")
    headers = {WORKER_ID: DOCTOR_WORKER_ID, JOB_ID: str(UNUSED_JOB_ID), CALLBACK_URL: target}
    headers |= routes.invoke_headers(url)
    seconds = 0.0
    for _ in range(2):  # once more, in case the machine was busy
        started = clock()
        try:
            await _request(http, "PUT", url, headers=headers)
        except _REQUEST_ERRORS as error:
            return Check(name, CheckStatus.ERROR, f"no response: {error_text(error)}", "see the function's log")
        seconds = clock() - started
        if seconds < SLOW_REPORT_SECONDS:
            return Check(name, CheckStatus.OK, f"its reports reach {redact_url(target)}")
    return Check(
        name,
        CheckStatus.ERROR,
        f"it could not report to {redact_url(target)} within {seconds:.0f} seconds",
        "set INTERNAL_JOBS_CALLBACK_URL on the worker to an address that the function's machine can reach; test it "
        f"there: curl -X POST {redact_url(target)}",
    )
