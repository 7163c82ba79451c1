"""Tools that change jobs. Each is confirmed before it changes anything (``confirmation.py``)."""

import dataclasses
import json
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import asyncpg
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import InputRequiredResult
from pydantic import AwareDatetime, Field

from jobfn.database.enqueue import enqueue
from jobfn.database.records import NewJob
from jobfn.mcp.confirmation import Confirmations, Plan
from jobfn.mcp.limits import MAX_COUNTED, MAX_GROWTH, MAX_IDS, MAX_PAYLOAD_CHARACTERS, MAX_RECORDS
from jobfn.mcp.plain_values import limited, plain, visible
from jobfn.mcp.read_tools import Filter, JobId, check_filter
from jobfn.mcp.settings import McpSettings
from jobfn.operations import Action, ActionResult, Operations
from jobfn.operations.statements import translate_errors

JobIds = Annotated[
    list[Annotated[int, Field(gt=0, lt=2**63)]] | None,
    Field(description="Ids of the jobs; or pass a filter.", min_length=1, max_length=MAX_IDS),
]
OptionalFilter = Annotated[Filter | None, Field(description="All jobs that match; or pass ids.")]
Confirmation = Annotated[
    str | None, Field(description="The `confirmation` of the plan that an earlier call with these arguments returned.")
]
PayloadText = Annotated[str, Field(description="JSON text.", max_length=MAX_PAYLOAD_CHARACTERS)]
Result: TypeAlias = dict[str, Any] | InputRequiredResult


class ChangeTools:
    """Tools that change jobs.

    Args:
        operations: The operations.
        confirmations: Asks for confirmation.
        settings: The settings.
        pool: Connections to the database of the operations.
    """

    def __init__(
        self,
        operations: Operations,
        confirmations: Confirmations,
        settings: McpSettings,
        pool: "asyncpg.Pool[Any]",
    ) -> None:
        self._operations = operations
        self._confirmations = confirmations
        self._settings = settings
        self._pool = pool

    @property
    def tools(self) -> tuple[Callable[..., Any], ...]:
        """The functions that are tools."""
        return (
            self.retry_jobs,
            self.run_jobs_now,
            self.run_jobs_again,
            self.wake_jobs,
            self.cancel_jobs,
            self.remove_jobs,
            self.retry_from_step,
            self.send_signal,
            self.enqueue_job,
        )

    async def retry_jobs(
        self,
        context: Context[Any, Any],
        *,
        job_ids: JobIds = None,
        filter: OptionalFilter = None,  # noqa: A002
        confirmation: Confirmation = None,
    ) -> Result:
        """Retry permanently failed jobs: their attempts start again at one, and they are due now."""
        return await self._act(context, Action.RETRY, job_ids, filter, confirmation)

    async def run_jobs_now(
        self,
        context: Context[Any, Any],
        *,
        job_ids: JobIds = None,
        filter: OptionalFilter = None,  # noqa: A002
        confirmation: Confirmation = None,
    ) -> Result:
        """Make delayed jobs due now. Their attempts are kept."""
        return await self._act(context, Action.RUN_NOW, job_ids, filter, confirmation)

    async def run_jobs_again(
        self,
        context: Context[Any, Any],
        *,
        job_ids: JobIds = None,
        filter: OptionalFilter = None,  # noqa: A002
        confirmation: Confirmation = None,
    ) -> Result:
        """Add a new job for each completed job that is stored with its payload."""
        return await self._act(context, Action.RUN_AGAIN, job_ids, filter, confirmation)

    async def wake_jobs(
        self,
        context: Context[Any, Any],
        *,
        job_ids: JobIds = None,
        filter: OptionalFilter = None,  # noqa: A002
        confirmation: Confirmation = None,
    ) -> Result:
        """End the sleeps of parked jobs, and their waits that have a deadline."""
        return await self._act(context, Action.WAKE, job_ids, filter, confirmation)

    async def cancel_jobs(
        self,
        context: Context[Any, Any],
        *,
        job_ids: JobIds = None,
        filter: OptionalFilter = None,  # noqa: A002
        reason: Annotated[str | None, Field(max_length=500, description="Stored as the error of the jobs.")] = None,
        include_running: Annotated[bool, Field(description="Cancel running jobs, too.")] = False,
        confirmation: Confirmation = None,
    ) -> Result:
        """Cancel waiting jobs and their waiting child jobs. They can be retried."""
        return await self._act(
            context, Action.CANCEL, job_ids, filter, confirmation, reason=reason, include_running=include_running
        )

    async def remove_jobs(
        self,
        context: Context[Any, Any],
        *,
        job_ids: JobIds = None,
        filter: OptionalFilter = None,  # noqa: A002
        confirmation: Confirmation = None,
    ) -> Result:
        """Delete jobs that are not running. This cannot be undone."""
        return await self._act(context, Action.REMOVE, job_ids, filter, confirmation)

    async def retry_from_step(
        self,
        context: Context[Any, Any],
        *,
        job_id: JobId,
        step: Annotated[str | int, Field(description="The name of the step, or its position.")],
        confirmation: Confirmation = None,
    ) -> Result:
        """Forget a step of a durable function and those after it, and run the job again from there."""
        retry = await self._operations.plan_retry(job_id, step)

        async def change() -> dict[str, Any]:
            await self._operations.retry_from_step(retry)
            return {"changed": True, **plain(retry)}

        effects = f"Forgotten steps: {retry.steps:,}; children that have not ended: {retry.children:,}."
        return await self._confirmations.carry_out(
            context,
            "retry_from_step",
            {"job_id": job_id, "step": step},
            confirmation=confirmation,
            question=f"Retry job {job_id} from step {visible(retry.name)!r}? {effects}",
            change=change,
        )

    async def send_signal(
        self,
        context: Context[Any, Any],
        *,
        job_id: JobId,
        event: Annotated[str, Field(min_length=1, max_length=200, description="The name of the signal.")],
        payload: PayloadText = "null",
        confirmation: Confirmation = None,
    ) -> Result:
        """Send a signal to a durable function."""
        _check_json(payload)

        async def change() -> dict[str, Any]:
            if await self._operations.send_signal(job_id, event, payload):
                return {"changed": True}
            return {"changed": False, "message": f"job {job_id} has ended or does not exist"}

        return await self._confirmations.carry_out(
            context,
            "send_signal",
            {"job_id": job_id, "event": event, "payload": payload},
            confirmation=confirmation,
            question=f"Send the signal {visible(event)!r} to job {job_id}, with {_shown(payload)}?",
            change=change,
        )

    async def enqueue_job(
        self,
        context: Context[Any, Any],
        *,
        task: Annotated[str, Field(min_length=1, max_length=126, description="The task identifier.")],
        payload: PayloadText = "{}",
        queue: Annotated[str | None, Field(description="Named queue.")] = None,
        key: Annotated[str | None, Field(description="Job key: a waiting job with this key is replaced.")] = None,
        run_at: Annotated[AwareDatetime | None, Field(description="Earliest start; now if it is left out.")] = None,
        database_id: Annotated[str | None, Field(description="The tenant, a UUID.")] = None,
        confirmation: Confirmation = None,
    ) -> Result:
        """Add one job."""
        _check_json(payload)
        job = NewJob(task=task, payload=payload, key=key, queue=queue, run_at=run_at, database_id=database_id)
        options = {"queue": queue, "key": key, "run_at": run_at, "database_id": database_id}

        async def change() -> dict[str, Any]:
            with translate_errors(self._operations.schema):
                async with self._pool.acquire() as connection:
                    return {"changed": True, "job_id": await enqueue(connection, self._operations.schema, job)}

        given = "".join(f", {name} {visible(str(value))!r}" for name, value in options.items() if value is not None)
        return await self._confirmations.carry_out(
            context,
            "enqueue_job",
            {"task": task, "payload": payload, **options},
            confirmation=confirmation,
            question=f"Add a job of the task {visible(task)!r}{given}, with {_shown(payload)}?",
            change=change,
        )

    async def _act(
        self,
        context: Context[Any, Any],
        action: Action,
        job_ids: list[int] | None,
        job_filter: Filter | None,
        confirmation: str | None,
        *,
        reason: str | None = None,
        include_running: bool = False,
    ) -> Result:
        """Apply an action to jobs by their ids, or to all that match a filter."""
        if (job_ids is None) == (job_filter is None):
            raise ToolError("pass either job_ids or a filter")
        check_filter(self._settings, job_filter)

        async def count() -> int:
            if job_filter is None:
                return len(set(job_ids or ()))
            return await self._operations.count_targets(
                action, job_filter, include_running=include_running, limit=MAX_COUNTED
            )

        async def propose() -> tuple[str, int]:
            number = await count()
            if not number:
                raise ToolError("no job matches: nothing changed")
            which = f"with the ids {', '.join(map(str, job_ids))}" if job_ids else f"matching {plain(job_filter)}"
            extra = (f", with the reason {visible(reason)!r}" if reason else "") + (
                ", running ones too" if include_running else ""
            )
            verb = action.value.replace("_", " ").capitalize()
            return f"{verb} {_count_text(number)} {which}{extra}?", number

        async def change(plan: Plan) -> dict[str, Any]:
            if job_filter is None:
                result = await self._operations.apply(
                    action, job_ids or (), reason=reason, include_running=include_running
                )
                return _result(result)
            if plan.count < MAX_COUNTED and (number := await count()) > MAX_GROWTH * plan.count:
                raise ToolError(
                    f"{_count_text(number)} match now, {plan.count:,} when it was planned: nothing changed, plan again"
                )
            result = await self._operations.apply_to_matching(
                action, job_filter, reason=reason, include_running=include_running
            )
            return _result(result)

        return await self._confirmations.carry_out_many(
            context,
            action.value,
            {
                "ids": job_ids,
                "filter": None if job_filter is None else dataclasses.asdict(job_filter),
                "reason": reason,
                "include_running": include_running,
            },
            confirmation=confirmation,
            propose=propose,
            apply=change,
        )


def _result(result: ActionResult) -> dict[str, Any]:
    return {
        "changed": result.done > 0,
        "done": result.done,
        "child_jobs": result.children,
        **limited("ids", result.ids, MAX_RECORDS),
        **(limited("new_ids", result.new_ids, MAX_RECORDS) if result.new_ids else {}),
        "skipped_count": result.skipped_count,
        "skipped": plain(result.skipped[:MAX_RECORDS]),
    }


def _count_text(count: int) -> str:
    if count >= MAX_COUNTED:
        return f"{MAX_COUNTED:,} jobs or more"
    return f"{count:,} job{'' if count == 1 else 's'}"


def _shown(payload: str) -> str:
    return f"the payload {visible(payload, MAX_PAYLOAD_CHARACTERS)}"


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise ToolError('the payload is not valid JSON text: write it as a string, such as "{\\"id\\": 1}"') from None
