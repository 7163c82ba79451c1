"""Child jobs of a run: ``call``, ``gather`` and ``then``."""

import asyncio
import json
from collections.abc import Awaitable, Generator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import pydantic_core

from jobfn.errors import ChildFailed, DurableError, RequestError
from jobfn.function.durable.run import FIRST_OF_GROUP, DurableRun
from jobfn.function.durable.support import seconds_of
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS
from jobfn.wire.steps import MAX_STEP_BYTES, StepRecord


class CallableTask(Protocol):
    """A ``Task``."""

    identifier: str

    def decode(self, body: bytes) -> Any:
        """Return the payload of a body; raise ``RequestError`` if it does not fit."""


class ChildCall:
    """A call of another task, which starts when it is awaited or gathered. See ``DurableMethods.call``."""

    def __init__(self, run: DurableRun, spec: Mapping[str, Any], name: str | None) -> None:
        self._run = run
        self.spec = spec
        self.task: str = spec["task"]
        self.name = run.name_of(self.task, prefix="call:") if name is None else run.name_of(name)

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run the child and return its result."""
        return self._result().__await__()

    async def _result(self) -> Any:
        [outcome] = await call_children(self._run, [self])
        if isinstance(outcome, ChildFailed):
            raise outcome
        return outcome


async def call_children(run: DurableRun, calls: Sequence[ChildCall]) -> list[Any]:
    """Run children as one group, and return their results and failures in order when all have ended."""
    with run.activity():
        known = [await run.recorded(call.name, "call") for call in calls]
        group = next((record.group for record in known if record is not None), FIRST_OF_GROUP)
        new = [
            StepRecord(0, call.name, "call", "waiting", group, spec=call.spec)
            for call, record in zip(calls, known, strict=True)
            if record is None
        ]
        recorded = iter(await run.record(new) if new else ())
        records = [record or next(recorded) for record in known]
    waiting = [record for record in records if record.state == "waiting"]
    run.observer.event("call", {"step": calls[0].name, "children": len(calls), "waiting": len(waiting)})
    if waiting:
        await run.park_for(waiting[0].group or waiting[0].position)
    return [_outcome(call, record) for call, record in zip(calls, records, strict=True)]


async def gather(
    run: DurableRun, awaitables: Sequence["ChildCall | Awaitable[Any]"], *, return_exceptions: bool
) -> list[Any]:
    """See ``DurableMethods.gather``."""
    calls = [each for each in awaitables if isinstance(each, ChildCall)]
    others = [each for each in awaitables if not isinstance(each, ChildCall)]
    children = call_children(run, calls) if calls else asyncio.sleep(0, [])
    child_results, *other_results = await asyncio.gather(children, *others, return_exceptions=True)
    if isinstance(child_results, BaseException):
        raise child_results
    remaining_children, remaining_others = iter(child_results), iter(other_results)
    results = [
        next(remaining_children) if isinstance(each, ChildCall) else next(remaining_others) for each in awaitables
    ]
    if not return_exceptions:
        for result in results:
            if isinstance(result, BaseException):
                raise result
    return results


def child_spec(
    task: CallableTask | str,
    payload: Any,
    *,
    queue: str | None,
    priority: int | None,
    max_attempts: int | None,
    delay: timedelta | float,
) -> dict[str, Any]:
    """Return the record of a job to add.

    Raises:
        DurableError: The task or the payload is invalid.
    """
    identifier: object = task if isinstance(task, str) else task.identifier
    if not isinstance(identifier, str) or not 1 <= len(identifier) <= MAX_TASK_IDENTIFIER_CHARACTERS:
        raise DurableError(f"{identifier!r:.50} is not a task: pass a task, or its identifier")
    try:
        text = pydantic_core.to_json({} if payload is None else payload)
    except pydantic_core.PydanticSerializationError as error:
        raise DurableError(f"the payload for {identifier} is not JSON-serializable: {error}") from None
    if not isinstance(task, str):
        try:
            task.decode(text)
        except RequestError as error:
            raise DurableError(f"the payload does not fit {identifier}: {error.message}") from None
    if len(text) > MAX_STEP_BYTES:
        raise DurableError(f"the payload for {identifier} is larger than {MAX_STEP_BYTES} bytes: pass a reference")
    spec: dict[str, Any] = {"task": identifier, "payload": json.loads(text)}
    options = {
        "queue": queue,
        "priority": priority,
        "maxAttempts": max_attempts,
        "delaySeconds": seconds_of(delay) or None,
    }
    return spec | {name: value for name, value in options.items() if value is not None}


def _outcome(call: ChildCall, record: StepRecord) -> Any:
    if record.state == "failed":
        return ChildFailed(record.name, f"{call.task} failed: {record.error or ''}")
    if record.error is not None:
        return ChildFailed(record.name, f"{call.task} has completed, but its result is not stored: {record.error}")
    return None if record.result is None else json.loads(record.result)
