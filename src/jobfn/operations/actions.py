"""What operators do with jobs: retry, run now, cancel, remove. One by one, or all that fit a filter.

Where a job stands is looked at again under its row's lock, by the statement that acts. What does not fit is left as it
is, and named with the reason.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from jobfn.database.records import sanitize_text
from jobfn.errors import ConfigurationError
from jobfn.operations.queries import conditions, states_of
from jobfn.operations.records import JobFilter, JobState
from jobfn.operations.statements import Database

#: Jobs in one transaction: enough to be quick, few enough to hold nobody up.
BATCH = 500
#: So many ids of those done, and of those skipped, are named.
MAX_NAMED = 1000
DEFAULT_REASON = "cancelled by hand"


class Action(StrEnum):
    """What can be done with jobs."""

    RETRY = "retry"
    RUN_NOW = "run_now"
    CANCEL = "cancel"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A job that was left as it is.

    Attributes:
        id: ``jobs.id``.
        reason: Why.
    """

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What came of an action.

    Attributes:
        action: Which.
        done: With how many jobs.
        ids: Those, the first ``MAX_NAMED`` of them.
        skipped: What was left as it is, the first ``MAX_NAMED``.
        skipped_count: How many were.
    """

    action: Action
    done: int = 0
    ids: tuple[int, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0

    def __add__(self, other: "ActionResult") -> "ActionResult":
        return ActionResult(
            self.action,
            self.done + other.done,
            (self.ids + other.ids)[:MAX_NAMED],
            (self.skipped + other.skipped)[:MAX_NAMED],
            self.skipped_count + other.skipped_count,
        )


#: On jobfn's schema, and on the platform's.
_STATEMENTS = {
    Action.RETRY: ("retry_jobs", "retry_jobs_platform"),
    Action.RUN_NOW: ("run_jobs_now", "run_jobs_now"),
    Action.CANCEL: ("cancel_jobs", "cancel_jobs_platform"),
    Action.REMOVE: ("remove_jobs", "remove_jobs"),
}
_RUNS = "it runs: wait for its end, or cancel it first"
#: Why an action leaves alone what stands so.
_REASONS = {
    (Action.RETRY, JobState.READY): "it has not failed for good: it is ready",
    (Action.RETRY, JobState.DELAYED): "it has not failed for good: it waits for its time",
    (Action.RETRY, JobState.RUNNING): _RUNS,
    (Action.RUN_NOW, JobState.READY): "it is ready already",
    (Action.RUN_NOW, JobState.RUNNING): _RUNS,
    (Action.RUN_NOW, JobState.FAILED): "it has failed for good: retry it",
    (Action.CANCEL, JobState.RUNNING): 'it runs: cancel it with --running ("running ones too" in the dashboard)',
    (Action.CANCEL, JobState.FAILED): "it has failed for good already",
    (Action.REMOVE, JobState.RUNNING): _RUNS,
}


async def act(
    database: Database, action: Action, ids: Sequence[int], *, reason: str | None, running: bool
) -> ActionResult:
    """See ``Operations.act``."""
    result = ActionResult(action)
    unique = list(dict.fromkeys(ids))
    for begin in range(0, len(unique), BATCH):
        result += await _act_on_some(database, action, unique[begin : begin + BATCH], reason=reason, running=running)
    return result


async def apply_to_matching(
    database: Database,
    action: Action,
    wanted: JobFilter,
    *,
    reason: str | None,
    running: bool,
    progress: Callable[[int], None] | None,
) -> ActionResult:
    """See ``Operations.apply_to_matching``."""
    result = ActionResult(action)
    parts = meant(action, wanted, running=running)
    highest = (await database.fetch("highest_job_id"))[0]["max"]
    for part in parts:
        below = None if highest is None else highest + 1  # jobs that come later are none of this
        while below is not None:
            values = conditions(database, part, below)
            rows = await database.fetch("matching_ids", *values, BATCH, newest_first=part.search is not None)
            found = [row["id"] for row in rows]
            result += await _act_on_some(database, action, found, reason=reason, running=running)
            below = found[-1] if len(found) == BATCH else None
            if progress is not None:
                progress(len(found))
    return result


def meant(action: Action, wanted: JobFilter, *, running: bool) -> tuple[JobFilter, ...]:
    """The filters that an action goes by: where none says so, it is about jobs that it can do something with.

    Raises:
        ConfigurationError: The filter is empty, or asks for completed jobs.
    """
    verb = action.value.replace("_", " ")
    if wanted.is_empty:
        raise ConfigurationError(f"{verb} all jobs there are? Name a task, a queue, a state or another filter")
    if wanted.state is JobState.COMPLETED:
        raise ConfigurationError(f"completed jobs are gone: there is nothing to {verb}")
    if wanted.state is not None or action is Action.REMOVE:
        return (wanted,)
    states = {
        Action.RETRY: (JobState.FAILED,),
        Action.RUN_NOW: (JobState.DELAYED,),
        Action.CANCEL: (JobState.READY, JobState.DELAYED, *((JobState.RUNNING,) if running else ())),
    }
    return tuple(replace(wanted, state=state) for state in states[action])


async def _act_on_some(
    database: Database, action: Action, ids: Sequence[int], *, reason: str | None, running: bool
) -> ActionResult:
    possible = [job for job in ids if 0 < job < 2**63]
    is_platform = database.features.is_platform
    values: list[object] = [possible]
    if action is Action.CANCEL:
        values.append(sanitize_text(reason or DEFAULT_REASON))
        if not is_platform:
            values.append(running)
    async with database.transaction() as connection:
        rows = await connection.fetch(database.statement(_STATEMENTS[action][is_platform]), *values)
        if is_platform and rows and action in {Action.RETRY, Action.RUN_NOW}:
            await connection.execute(database.statement("notify_jobs"))
    done = {row["id"] for row in rows}
    left = [job for job in ids if job not in done]
    states = await states_of(database, [job for job in left if job in possible]) if left else {}
    skipped = tuple(Skipped(job, _why_not(action, states.get(job), is_platform=is_platform)) for job in left)
    ordered = tuple(job for job in ids if job in done)
    return ActionResult(action, len(done), ordered[:MAX_NAMED], skipped[:MAX_NAMED], len(skipped))


def _why_not(action: Action, state: JobState | None, *, is_platform: bool) -> str:
    if state is None:
        return "there is no such job (any more)"
    if is_platform and (action, state) == (Action.CANCEL, JobState.RUNNING):
        return "it runs, and on the platform's own schema what runs cannot be cancelled"
    return _REASONS.get((action, state), "it changed meanwhile: try again")
