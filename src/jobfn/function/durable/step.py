"""Run a step: once, unless its process dies before the result is stored."""

import asyncio
import inspect
import json
import random
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any

from jobfn.errors import DurableError, PermanentError, PermanentStepFailure, RetryLater, StepFailed
from jobfn.function.durable.results import result_to_json, return_annotation, validate_json
from jobfn.function.durable.run import DurableRun, current_step
from jobfn.function.outcome import message_of, sanitize_message
from jobfn.function.retry_policy import RetryPolicy
from jobfn.wire.steps import StepRecord

#: Default delay between the tries of a step whose policy has no backoff.
_DEFAULT_DELAY_SECONDS = 1.0


def run_step(
    run: DurableRun, name: str, function: Callable[..., Any], arguments: Sequence[Any], retry: RetryPolicy | None
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of a step. It gets its name now, in the order of the calls."""
    if not callable(function):
        raise DurableError(
            f"step {name!r}: {function!r:.80} is not a function: pass it and its arguments, without a call"
        )
    return Step(run, run.name_of(name), function, arguments, retry).run()


class Step:
    """One step of a run. It gets its name when it is created, in the order of the calls."""

    def __init__(
        self,
        run: DurableRun,
        name: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        retry: RetryPolicy | None,
    ) -> None:
        self._run = run
        self._name = name
        self._function: Callable[..., Any] = getattr(function, "handler", function)  # of a task
        self._arguments = arguments
        self._annotation = return_annotation(self._function)
        self._retry = retry

    async def run(self) -> Any:
        """Return the step's result: the recorded one, or that of the function."""
        with self._run.activity():
            record = await self._run.recorded(self._name, "step")
            with self._run.observer.step(self._name, is_recorded=record is not None):
                if record is None:
                    record = await self._execute()
                if record.state == "failed":
                    raise _recorded_failure(record)
        return validate_json(record.result, self._annotation, f"the recorded result of step {self._name!r}")

    async def _execute(self) -> StepRecord:
        attempt = 0
        while True:
            attempt += 1
            started_at = perf_counter()
            token = current_step.set(self._name)
            try:
                result = await self._call()
            except Exception as error:  # noqa: BLE001  - a step may raise anything
                seconds = perf_counter() - started_at
                failure = error
            else:
                text = result_to_json(result, self._annotation, self._name)
                [record] = await self._run.record(
                    [StepRecord(0, self._name, "step", result=text, seconds=perf_counter() - started_at)]
                )
                return record
            finally:
                current_step.reset(token)
            await self._fail(failure, attempt, seconds)

    async def _fail(self, error: Exception, attempt: int, seconds: float) -> None:
        """Wait for the next try. If there is none, raise the failure."""
        if isinstance(error, RetryLater):
            raise error
        is_permanent = isinstance(error, PermanentError)
        decision = None if self._retry is None else self._retry.decide(error, attempt, random.random())  # noqa: S311  - jitter
        if decision is not None and not decision.permanent:
            delay_seconds = decision.retry_after_seconds
            await asyncio.sleep(_DEFAULT_DELAY_SECONDS if delay_seconds is None else delay_seconds)
            return
        failed = StepRecord(
            0,
            self._name,
            "step",
            "failed",
            result=json.dumps({"type": type(error).__name__, "permanent": is_permanent}),
            error=sanitize_message(message_of(error)),
            seconds=seconds,
        )
        if decision is not None:  # its own tries are used up
            await self._run.record([failed])
            raise _recorded_failure(failed) from error
        self._run.fail_later(failed)
        kind = PermanentStepFailure if is_permanent else StepFailed
        raise kind(self._name, failed.error or "", type(error).__name__) from error

    async def _call(self) -> Any:
        if inspect.iscoroutinefunction(self._function) or self._run.threads is None:
            result = self._function(*self._arguments)
        else:
            result = await self._run.threads.run(self._function, *self._arguments)
        return await result if inspect.isawaitable(result) else result


def _recorded_failure(record: StepRecord) -> PermanentStepFailure:
    details = json.loads(record.result or "{}")
    return PermanentStepFailure(record.name, record.error or "", str(details.get("type", "Exception")))
