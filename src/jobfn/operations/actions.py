"""Actions on jobs: retry, run now, run again, wake, cancel, remove. On single jobs, or on all that match a filter.

Each statement checks the state of a job again under its row lock. Jobs in another state are skipped, with the reason.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from jobfn.database.records import sanitize_text
from jobfn.errors import ConfigurationError
from jobfn.operations import completed_jobs
from jobfn.operations.bulk import bulk_settings
from jobfn.operations.queries import count_matching, filter_parameters, job_states
from jobfn.operations.records import JobFilter, JobState
from jobfn.operations.statements import Database

#: Jobs per transaction: large enough to be fast, small enough not to block workers.
BATCH_SIZE = 500
#: Maximum number of ids, and of skipped jobs, in a result.
MAX_RESULT_IDS = 1000
DEFAULT_REASON = "cancelled by hand"


class Action(StrEnum):
    """An action on a job."""

    RETRY = "retry"
    RUN_NOW = "run_now"
    RUN_AGAIN = "run_again"
    WAKE = "wake"
    CANCEL = "cancel"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A job that an action did not change, and why."""

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class ActionResult:
    """Result of an action: how many jobs it changed and skipped, and at most ``MAX_RESULT_IDS`` of each.

    Attributes:
        children: For ``CANCEL``: how many waiting child jobs were cancelled with them.
        new_ids: For ``RUN_AGAIN``: the added jobs, in the order of ``ids``.
        is_stopped: Whether the action was stopped before its end.
    """

    action: Action
    done: int = 0
    ids: tuple[int, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0
    children: int = 0
    new_ids: tuple[int, ...] = ()
    is_stopped: bool = False

    def __add__(self, other: "ActionResult") -> "ActionResult":
        return ActionResult(
            self.action,
            self.done + other.done,
            (self.ids + other.ids)[:MAX_RESULT_IDS],
            (self.skipped + other.skipped)[:MAX_RESULT_IDS],
            self.skipped_count + other.skipped_count,
            self.children + other.children,
            (self.new_ids + other.new_ids)[:MAX_RESULT_IDS],
            self.is_stopped or other.is_stopped,
        )


#: Statement names on jobfn's schema and on the platform's.
_STATEMENTS = {
    Action.RETRY: ("retry_jobs", "retry_platform_jobs"),
    Action.RUN_NOW: ("run_jobs_now", "run_platform_jobs_now"),
    Action.RUN_AGAIN: ("run_jobs_again", ""),
    Action.WAKE: ("wake_jobs", ""),
    Action.CANCEL: ("cancel_jobs", "cancel_platform_jobs"),
    Action.REMOVE: ("remove_jobs", "remove_jobs"),
}
_HIGHEST_ID = {Action.RUN_AGAIN: "highest_completed_id"}
_RUNNING = "it is running: wait until it ends, or cancel it first"
#: Reason for skipping a job in this state.
_SKIP_REASONS = {
    (Action.RETRY, JobState.READY): "it has not permanently failed: it is ready",
    (Action.RETRY, JobState.DELAYED): "it has not permanently failed: it is delayed",
    (Action.RETRY, JobState.PARKED): "it has not permanently failed: it is parked",
    (Action.RETRY, JobState.RUNNING): _RUNNING,
    (Action.RUN_NOW, JobState.READY): "it is already ready",
    (Action.RUN_NOW, JobState.PARKED): "it is parked: wake it, or send the signal that it waits for",
    (Action.RUN_NOW, JobState.RUNNING): _RUNNING,
    (Action.RUN_NOW, JobState.FAILED): "it has permanently failed: retry it",
    (Action.RUN_AGAIN, JobState.READY): "it has not completed: it is ready",
    (Action.RUN_AGAIN, JobState.DELAYED): "it has not completed: run it now",
    (Action.RUN_AGAIN, JobState.PARKED): "it has not completed: it is parked",
    (Action.RUN_AGAIN, JobState.RUNNING): "it has not completed: it is running",
    (Action.RUN_AGAIN, JobState.FAILED): "it has permanently failed: retry it",
    (Action.RUN_AGAIN, JobState.CANCELLED): "it was cancelled: retry it",
    (Action.RUN_AGAIN, JobState.EXPIRED): "it has expired: retry it",
    (Action.RUN_NOW, JobState.CANCELLED): "it was cancelled: retry it",
    (Action.RUN_NOW, JobState.EXPIRED): "it has expired: retry it",
    (Action.WAKE, JobState.CANCELLED): "it was cancelled: retry it",
    (Action.WAKE, JobState.EXPIRED): "it has expired: retry it",
    (Action.WAKE, JobState.READY): "it is already ready",
    (Action.WAKE, JobState.DELAYED): "it is delayed, and not parked: run it now",
    (Action.WAKE, JobState.PARKED): "it waits for a signal or for child jobs, without a time: send the signal",
    (Action.WAKE, JobState.RUNNING): "it is running, and not parked",
    (Action.WAKE, JobState.FAILED): "it has permanently failed: retry it",
    (Action.CANCEL, JobState.RUNNING): 'it is running: cancel it with --running ("running ones too" in the dashboard)',
    (Action.CANCEL, JobState.FAILED): "it has already failed permanently",
    (Action.CANCEL, JobState.CANCELLED): "it has already been cancelled",
    (Action.CANCEL, JobState.EXPIRED): "it has expired",
    (Action.REMOVE, JobState.RUNNING): _RUNNING,
}


async def apply(
    database: Database, action: Action, job_ids: Sequence[int], *, reason: str | None, include_running: bool
) -> ActionResult:
    """See ``Operations.apply``."""
    check_supported(database, action)
    result = ActionResult(action)
    for batch in _batches(job_ids):
        result += await _apply_to_batch(database, action, batch, reason=reason, include_running=include_running)
    return result


async def apply_to_matching(
    database: Database,
    action: Action,
    job_filter: JobFilter,
    *,
    reason: str | None,
    include_running: bool,
    on_progress: Callable[[int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> ActionResult:
    """See ``Operations.apply_to_matching``."""
    check_supported(database, action)
    result = ActionResult(action)
    settings = bulk_settings(job_filter)
    targets = select_targets(action, job_filter, include_running=include_running)
    highest = (await database.fetch(_HIGHEST_ID.get(action, "highest_job_id")))[0]["max"]
    for target in targets:
        below = None if highest is None else highest + 1  # excludes jobs that are added later
        while below is not None:
            if should_stop is not None and should_stop():
                return replace(result, is_stopped=True)
            batch = await _matching_ids(database, action, target, below)
            result += await _apply_to_batch(
                database, action, batch, reason=reason, include_running=include_running, settings=settings
            )
            below = batch[-1] if len(batch) == BATCH_SIZE else None
            if on_progress is not None:
                on_progress(len(batch))
    return result


async def preview(database: Database, action: Action, job_ids: Sequence[int], *, include_running: bool) -> ActionResult:
    """See ``Operations.preview``."""
    check_supported(database, action)
    result = ActionResult(action)
    for batch in _batches(job_ids):
        valid_ids = [job_id for job_id in batch if 0 < job_id < 2**63]
        states = await job_states(database, valid_ids)
        changed = {job_id for job_id, state in states.items() if (action, state) not in _SKIP_REASONS}
        if action is Action.RUN_AGAIN:
            changed = await completed_jobs.stored_ids(database, valid_ids)
        elif action is Action.WAKE:
            changed = {row["id"] for row in await database.fetch("wakeable_ids", valid_ids)}
        elif action is Action.CANCEL and include_running:
            changed |= {job_id for job_id, state in states.items() if state is JobState.RUNNING}
        result += _result(action, batch, changed, states)
    return result


async def count_targets(
    database: Database, action: Action, job_filter: JobFilter, *, include_running: bool, limit: int
) -> int:
    """See ``Operations.count_targets``."""
    check_supported(database, action)
    targets = select_targets(action, job_filter, include_running=include_running)
    if action is Action.RUN_AGAIN:
        return await completed_jobs.count_matching(database, targets[0], limit=limit)
    return sum([await count_matching(database, target, limit=limit) for target in targets])


def check_supported(database: Database, action: Action) -> None:
    """Check that the schema supports the action.

    Raises:
        ConfigurationError: It is the platform's schema, and the action is about durable functions or completed jobs.
    """
    if action is Action.WAKE:
        require_durable(database)
    if action is Action.RUN_AGAIN:
        completed_jobs.require_stored(database)


def require_durable(database: Database) -> None:
    """Check that the schema has durable functions.

    Raises:
        ConfigurationError: It is the platform's schema.
    """
    database.require_native("has no durable functions: no job is parked, and none has steps or signals")


def select_targets(action: Action, job_filter: JobFilter, *, include_running: bool) -> tuple[JobFilter, ...]:
    """Return the filters for an action: without a state, one for each state that the action can change.

    Raises:
        ConfigurationError: The filter is empty, or selects jobs that the action never changes: completed ones, and for
            ``RUN_AGAIN`` all others.
    """
    verb = action.value.replace("_", " ")
    if job_filter.is_empty:
        raise ConfigurationError(f"the filter is empty, and would {verb} all jobs: name a task, a queue or a state")
    if action is Action.RUN_AGAIN:
        if job_filter.state not in {None, JobState.COMPLETED}:
            raise ConfigurationError(f"{job_filter.state} jobs have not completed: only completed jobs can run again")
        return (replace(job_filter, state=JobState.COMPLETED),)
    if job_filter.state is JobState.COMPLETED:
        raise ConfigurationError(f"completed jobs are deleted: there is nothing to {verb}")
    if job_filter.state is not None or action is Action.REMOVE:
        return (job_filter,)
    states = {
        Action.RETRY: (JobState.FAILED,),
        Action.RUN_NOW: (JobState.DELAYED,),
        Action.WAKE: (JobState.PARKED,),
        Action.CANCEL: (
            JobState.READY,
            JobState.DELAYED,
            JobState.PARKED,
            *((JobState.RUNNING,) if include_running else ()),
        ),
    }
    return tuple(replace(job_filter, state=state) for state in states[action])


def _batches(job_ids: Sequence[int]) -> Iterator[list[int]]:
    """Return the ids, each once, at most ``BATCH_SIZE`` at a time."""
    unique = list(dict.fromkeys(job_ids))
    return (unique[start : start + BATCH_SIZE] for start in range(0, len(unique), BATCH_SIZE))


async def _apply_to_batch(
    database: Database,
    action: Action,
    job_ids: Sequence[int],
    *,
    reason: str | None,
    include_running: bool,
    settings: str = "",
) -> ActionResult:
    valid_ids = [job_id for job_id in job_ids if 0 < job_id < 2**63]
    is_platform = database.capabilities.is_platform
    values: list[object] = [valid_ids]
    if action is Action.CANCEL:
        reason = sanitize_text(reason or DEFAULT_REASON)
        if is_platform and not reason.startswith("cancelled"):
            reason = f"cancelled: {reason}"  # how workers and lists of that schema tell it from a failure
        values += [reason, include_running]
    async with database.transaction(settings=settings) as connection:
        descendants: list[int] = []
        if action is Action.CANCEL and not is_platform:
            found = await connection.fetch(database.statement("waiting_descendants"), valid_ids)
            descendants = [row["id"] for row in found if row["id"] not in set(valid_ids)]
        rows = await connection.fetch(database.statement(_STATEMENTS[action][is_platform]), *values)
        children = 0
        if descendants:
            children = await connection.fetchval(database.statement("count_failed"), descendants)
        if is_platform and rows and action in {Action.RETRY, Action.RUN_NOW}:
            await connection.execute(database.statement("notify_jobs"))
        if is_platform and rows and include_running:
            await connection.execute(database.statement("notify_cancelled"))
    changed = {row["id"] for row in rows}
    unchanged = [job_id for job_id in valid_ids if job_id not in changed]
    states = await job_states(database, unchanged) if unchanged else {}
    result = _result(action, job_ids, changed, states)
    if action is Action.RUN_AGAIN:
        new_ids = {row["id"]: row["new_job_id"] for row in rows}
        return replace(result, new_ids=tuple(new_ids[job_id] for job_id in result.ids))
    return replace(result, children=children)


def _result(action: Action, job_ids: Sequence[int], changed: set[int], states: Mapping[int, JobState]) -> ActionResult:
    """Return the result of a batch: the other jobs are skipped."""
    skipped = tuple(
        Skipped(job_id, _skip_reason(action, states.get(job_id))) for job_id in job_ids if job_id not in changed
    )
    ids = tuple(job_id for job_id in job_ids if job_id in changed)
    return ActionResult(action, len(ids), ids[:MAX_RESULT_IDS], skipped[:MAX_RESULT_IDS], len(skipped))


async def _matching_ids(database: Database, action: Action, target: JobFilter, below: int) -> list[int]:
    if action is Action.RUN_AGAIN:
        return await completed_jobs.matching_ids(database, target, below, BATCH_SIZE)
    values = filter_parameters(database, target, below)
    rows = await database.fetch("matching_ids", *values, BATCH_SIZE, next_batch=True)
    return [row["id"] for row in rows]


def _skip_reason(action: Action, state: JobState | None) -> str:
    if state is None and action is Action.RUN_AGAIN:
        return completed_jobs.NOT_STORED
    if state is None:
        return "it does not exist, or was completed or removed"
    return _SKIP_REASONS.get((action, state), "its state has just changed: try again")
