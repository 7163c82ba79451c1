"""What ``jobfn doctor`` looks at: each check says what it found, and what to do where that is not as it should be.

Nothing here changes anything, and no handler runs. Functions are asked for their list of tasks (GET), and those that
are jobfn's own are sent a PUT, which they refuse and, as any refusal, report: so they show whether they reach the
callback server.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import asyncpg
import httpx

from jobfn.database.migrate import SchemaKind, status
from jobfn.database.statements import query
from jobfn.errors import JobfnError
from jobfn.operations.operations import Operations
from jobfn.wire import CALLBACK_URL, INVOKE_SECRET, JOB_ID, WORKER_ID, redact_url, report_url
from jobfn.worker.dispatch import Routes
from jobfn.worker.settings import ServiceRole, ServiceSettings

#: Clocks may differ by so much: leases and times to run at are the database's, and worth seconds.
MAX_CLOCK_SKEW_SECONDS = 2.0
#: A function that cannot report answers only after its ``report_wait_seconds``, two by default.
SLOW_REPORT_SECONDS = 1.8
#: No job has this id, so that a report on it changes nothing.
NO_JOB = 2**63 - 1
_NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL)


class Verdict(StrEnum):
    """What a check says."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """What was found.

    Attributes:
        name: What was looked at.
        verdict: How it stands.
        found: What was found, in words.
        advice: What to do; empty where all is well.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


async def examine(
    pool: "asyncpg.Pool[Any]",
    operations: Operations | None,
    settings: ServiceSettings,
    http: httpx.AsyncClient,
    *,
    clock: Callable[[], float] = time.perf_counter,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Check]:
    """All checks, one after the other.

    Args:
        pool: Connections to the database.
        operations: Its jobs; None: there is no schema that can be worked with.
        settings: Of the service, as its environment has them: where functions and the callback server are.
        http: Asks them.
        clock: Monotonic seconds.
        now: This machine's time.
    """
    yield await _schema(pool, settings.schema_name)
    yield await _clocks(pool, settings.schema_name, now)
    if operations is None:
        return
    for check in await _listening(operations):
        yield check
    yield await _callback(http, settings)
    async for check in _functions(http, operations, settings, clock):
        yield check


async def _schema(pool: "asyncpg.Pool[Any]", schema: str) -> Check:
    name = "schema"
    try:
        async with pool.acquire() as connection:
            found = await status(connection, schema)
    except JobfnError as error:
        return Check(name, Verdict.BAD, str(error), "connect as the schema's owner")
    problem = advice = ""
    if found.kind is SchemaKind.ABSENT:
        problem, advice = f"there is no schema {schema}", "run `jobfn db migrate`, or set JOBS_SCHEMA"
    elif found.unknown:
        problem, advice = f"schema {schema} is newer than this jobfn", "upgrade jobfn here"
    elif found.changed:
        problem = f"migration {found.changed[0]} of schema {schema} came from a jobfn between two releases"
        advice = "run `jobfn db migrate`, which says what can be done"
    elif found.pending:
        missing = ", ".join(f"{step.version:04d} {step.name}" for step in found.pending)
        problem, advice = f"schema {schema} lacks {missing}", "run `jobfn db migrate`"
    if problem:
        return Check(name, Verdict.BAD, problem, advice)
    if found.kind is SchemaKind.PLATFORM:
        return Check(name, Verdict.GOOD, f"schema {schema} is the platform's own; jobfn runs on it as it is")
    return Check(name, Verdict.GOOD, f"schema {schema} is up to date: {len(found.migrations)} migrations")


async def _clocks(pool: "asyncpg.Pool[Any]", schema: str, now: Callable[[], datetime]) -> Check:
    async with pool.acquire() as connection:
        before = now()
        there = await connection.fetchval(query("clock", schema))
        after = now()
    off = max((there - after).total_seconds(), (before - there).total_seconds(), 0.0)
    if off > MAX_CLOCK_SKEW_SECONDS:
        which = "ahead of" if there > after else "behind"
        return Check(
            "clocks",
            Verdict.BAD,
            f"the database's clock is {off:.1f} seconds {which} this machine's",
            "let both follow the same time servers (chrony, systemd-timesyncd)",
        )
    return Check("clocks", Verdict.GOOD, "the database's clock and this machine's agree")


async def _listening(operations: Operations) -> list[Check]:
    """Does anything take jobs, hear reports, make jobs of schedules?"""
    workers = [worker for worker in await operations.workers() if worker.is_alive]
    start = "start `jobfn service` where the functions can be reached, or `jobfn dev functions.py`"
    if operations.features.is_platform:
        if workers:
            names = ", ".join(worker.id for worker in workers)
            return [Check("worker", Verdict.GOOD, f"jobs are held by {names}")]
        found = "nobody holds a job now; on the platform's own schema that is all there is to see"
        return [Check("worker", Verdict.DOUBTFUL, found, f"if jobs stay ready, {start}")]
    parts = {part: [worker.id for worker in workers if part.value in worker.parts] for part in ServiceRole}
    others = [worker.id for worker in workers if not worker.is_registered]
    checks = []
    if parts[ServiceRole.WORKER] or others:
        names = ", ".join([*parts[ServiceRole.WORKER], *others])
        checks.append(Check("worker", Verdict.GOOD, f"at work: {names}"))
    else:
        checks.append(Check("worker", Verdict.BAD, "no worker takes jobs", start))
    schedules = len(await operations.schedules(times=1))
    if schedules and parts[ServiceRole.SCHEDULER]:
        checks.append(Check("scheduler", Verdict.GOOD, f"at work: {', '.join(parts[ServiceRole.SCHEDULER])}"))
    elif schedules:
        found = f"{schedules} schedule{'' if schedules == 1 else 's'}, and no scheduler of jobfn's at work"
        checks.append(Check("scheduler", Verdict.BAD, found, f"{start}; with --only, add --only scheduler to one"))
    return checks


async def _callback(http: httpx.AsyncClient, settings: ServiceSettings) -> Check:
    """Is somebody there who hears reports? A POST without a job's id is a probe (contract, section 2)."""
    try:
        url = report_url(settings.callback_url)
    except ValueError as error:
        return Check("callback URL", Verdict.BAD, str(error), "set INTERNAL_JOBS_CALLBACK_URL to such a URL")
    try:
        answer = await http.post(url, content=b"{}", headers={"Content-Type": "application/json"})
    except _NO_ANSWER as error:
        return Check(
            "callback URL",
            Verdict.BAD,
            f"{redact_url(url)} cannot be reached from here: {_why(error)}",
            "start the callback server (`jobfn service`), and set INTERNAL_JOBS_CALLBACK_URL to where functions reach "
            "it; if that is a name only they can resolve, run doctor where they run",
        )
    if answer.status_code >= 500:
        return Check(
            "callback URL",
            Verdict.BAD,
            f"{redact_url(url)} answered {answer.status_code}",
            "look at the callback server's log; a gateway in between answers 502 to 504 where it has nobody",
        )
    return Check("callback URL", Verdict.GOOD, f"{redact_url(url)} answers")


async def _functions(
    http: httpx.AsyncClient, operations: Operations, settings: ServiceSettings, clock: Callable[[], float]
) -> AsyncIterator[Check]:
    routes = Routes(settings.gateway_url, settings.urls_by_task)
    tasks = sorted({*await operations.tasks(), *settings.urls_by_task, *settings.supported})
    if not tasks:
        yield Check(
            "functions",
            Verdict.DOUBTFUL,
            "no job, no history and no setting names a task, so no function could be asked",
            "add a job (`jobfn enqueue TASK`), or name tasks in JOBS_SUPPORTED, and look again",
        )
    asked: set[str] = set()
    for task in tasks:
        url = routes.url_of(task)
        check, is_ours = await _function(http, task, url)
        yield check
        if is_ours and _root(url) not in asked:
            asked.add(_root(url))
            yield await _reports(http, url, settings, clock)


async def _function(http: httpx.AsyncClient, task: str, url: str) -> tuple[Check, bool]:
    """Whether the function of a task answers, and whether it is one of jobfn's that knows the task."""
    name = f"function {task}"
    wrong_place = "set KNATIVE_SERVICE_URL, or INTERNAL_GATEWAY_DEVELOPMENT_MAP for this task, to where it answers"
    try:
        answer = await http.get(url)
        index = await http.get(_root(url))
    except _NO_ANSWER as error:
        found = f"{redact_url(url)} cannot be reached: {_why(error)}"
        return Check(name, Verdict.BAD, found, f"start the function, or {wrong_place}"), False
    if answer.status_code in {502, 503, 504}:
        found = f"{redact_url(url)} answered {answer.status_code}: what stands before the function has nobody behind it"
        return Check(name, Verdict.BAD, found, f"start the function, or {wrong_place}"), False
    known = _tasks_in(index)
    if known is None:
        return Check(name, Verdict.GOOD, f"{redact_url(url)} answers ({answer.status_code})"), False
    if task not in known:
        found = f"{redact_url(url)} answers, but the app there knows only {', '.join(sorted(known)) or 'no task'}"
        return Check(name, Verdict.BAD, found, f"deploy the task there, or {wrong_place}"), True
    return Check(name, Verdict.GOOD, f"{redact_url(url)} answers, and knows the task"), True


def _tasks_in(answer: httpx.Response) -> set[str] | None:
    """The tasks that a function app of jobfn's lists at its root; None: it is none."""
    try:
        tasks = answer.json()["tasks"]
        return {str(task["identifier"]) for task in tasks}
    except (ValueError, KeyError, TypeError):
        return None


async def _reports(http: httpx.AsyncClient, url: str, settings: ServiceSettings, clock: Callable[[], float]) -> Check:
    """Whether a function of jobfn's reaches the callback server: it reports a refusal before it answers."""
    name = f"reports from {redact_url(_root(url))}"
    try:
        target = report_url(settings.callback_url)
    except ValueError as error:
        return Check(name, Verdict.BAD, str(error), "set INTERNAL_JOBS_CALLBACK_URL to such a URL")
    headers = {WORKER_ID: "jobfn-doctor", JOB_ID: str(NO_JOB), CALLBACK_URL: target}
    if settings.invoke_secrets:
        headers[INVOKE_SECRET] = settings.invoke_secrets[0]
    seconds = 0.0
    for _ in range(2):  # a machine that was busy for a moment is no finding
        began = clock()
        try:
            await http.put(url, headers=headers)
        except _NO_ANSWER as error:
            return Check(name, Verdict.BAD, f"no answer: {_why(error)}", "look at the function's log")
        seconds = clock() - began
        if seconds < SLOW_REPORT_SECONDS:
            return Check(name, Verdict.GOOD, f"its reports reach {redact_url(target)}")
    return Check(
        name,
        Verdict.BAD,
        f"it could not report to {redact_url(target)} within {seconds:.0f} seconds",
        "set INTERNAL_JOBS_CALLBACK_URL on the worker to an address that the function's machine can reach; try it "
        f"there: curl -X POST {redact_url(target)}",
    )


def _root(url: str) -> str:
    """Where the app lists its tasks that a delivery to this URL reaches."""
    return str(httpx.URL(url).copy_with(path="/", query=None))


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
