"""``DurableRun``: what a job has recorded, and when its delivery parks.

A wait, such as a sleep, awaits a future that has no result in this delivery. When the handler only waits, the delivery
parks: an async handler is cancelled, and a sync one gets ``RunParked`` in its thread. A handler waits only if no step
runs and none starts within the next turns of the event loop. Other things that it does meanwhile are cancelled with it:
they are not steps, so the next delivery does them again.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from jobfn.errors import DurableError, WaitTimeout
from jobfn.function.durable.clients import InlineSteps, JobNotHeld, StepsClient
from jobfn.function.durable.instrumentation import RunObserver
from jobfn.function.durable.results import validate_json
from jobfn.telemetry.tracing import Ids
from jobfn.wire.steps import (
    MAX_STEP_NAME_CHARACTERS,
    MAX_STEPS,
    MAX_WAIT_GROUPS,
    StepKind,
    StepRecord,
    split_records,
)

if TYPE_CHECKING:
    from jobfn.function.durable.support import DurableSupport
    from jobfn.function.threads import HandlerThreads

#: Turns of the event loop in which nothing may happen before a waiting handler parks: tasks that it created begin.
_IDLE_TURNS: Final = 5
#: Room for the number of a repeated name, and for the prefix of its kind.
_MAX_NAME_CHARACTERS: Final = MAX_STEP_NAME_CHARACTERS - 10
#: Stands for the position of the first step of a new group.
FIRST_OF_GROUP: Final = 0
#: The step that the current code runs in.
current_step: contextvars.ContextVar[str | None] = contextvars.ContextVar("jobfn_step", default=None)

R = TypeVar("R")


class RunParked(BaseException):
    """Raised in the thread of a sync handler whose delivery ends. Let it pass: the next delivery goes on here."""


class DurableRun:
    """The steps of one job in one delivery.

    Args:
        client: Records and loads steps.
        observer: Counts and traces the calls.
        has_records: Whether earlier deliveries may have recorded steps.
        handler: The task of an async handler; None for a sync one.
        loop: The event loop of a sync handler's app. Default: the running one.
        threads: Where sync steps run; None: in the caller's.

    Attributes:
        waiting_for: The groups of steps that the delivery ends for; empty while it goes on.
        is_lost: Whether another worker holds the job now.
    """

    def __init__(
        self,
        client: StepsClient,
        observer: RunObserver,
        *,
        has_records: bool,
        handler: "asyncio.Task[Any] | None",
        threads: "HandlerThreads | None",
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.client = client
        self.observer = observer
        self.threads = threads
        self.waiting_for: tuple[int, ...] = ()
        self.is_lost = False
        self._handler = handler
        self._app_loop = loop
        self._is_loaded = not has_records
        self._lock = asyncio.Lock()
        self._records: dict[str, StepRecord] = {}
        #: Names of loaded steps that this delivery has not come to yet.
        self._unread: set[str] = set()
        self._next_position = 1
        self._counts: dict[str, int] = {}
        #: Failures that are final as soon as the handler goes on.
        self._failures: dict[str, StepRecord] = {}
        self._then: list[Mapping[str, Any]] = []
        self._active = 0
        self._changes = 0
        self._waits: dict[asyncio.Future[None], int] = {}
        self._is_closed = False
        self._interruption: Exception | None = None

    # Names and records

    def name_of(self, base: object, *, prefix: str = "") -> str:
        """Return the name of a call: the base, with a number if it is a repetition.

        Raises:
            DurableError: The base is not a name.
        """
        if not isinstance(base, str) or not 1 <= len(base) <= _MAX_NAME_CHARACTERS - len(prefix):
            raise DurableError(
                f"the name {base!r:.50} must be a text of 1 to {_MAX_NAME_CHARACTERS - len(prefix)} characters"
            )
        if "#" in base or not base.isprintable():
            raise DurableError(
                f"the name {base!r:.50} must not contain '#', which numbers repetitions, or control characters"
            )
        name = prefix + base
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    async def recorded(self, name: str, kind: StepKind) -> StepRecord | None:
        """Return what has been recorded under a name; None if nothing has.

        Raises:
            DurableError: It is of another kind, or the call is not allowed here.
        """
        self._require_open(name)
        await self._load_once()
        record = self._records.get(name)
        if record is None:
            return None
        if record.kind != kind:
            raise DurableError(
                f"{name!r} was recorded as a {record.kind}, and is a {kind} now: the same name must mean the same "
                "thing. Give the new call another name"
            )
        self._unread.discard(name)
        return record

    async def record(self, records: Sequence[StepRecord]) -> list[StepRecord]:
        """Record steps, and return them as they are recorded.

        Their positions are assigned here. Those with the group ``FIRST_OF_GROUP`` become one group.
        """
        failures = list(self._failures.values())
        self._failures.clear()
        placed: list[StepRecord] = []
        first_of_group: int | None = None
        for record in [*failures, *records]:
            position = self._take_position()
            group = record.group if record.group != FIRST_OF_GROUP else first_of_group or position
            if record.group == FIRST_OF_GROUP:
                first_of_group = group
            placed.append(record._replace(position=position, group=group))
        stored: list[StepRecord] = []
        for chunk in split_records(placed):
            stored += await self.exchange(self.client.record(chunk))
        for sent, record in zip(placed, stored, strict=True):
            if sent.name != record.name:
                raise DurableError(f"{sent.name!r} was recorded as {record.name!r}: this is a bug in jobfn")
            self._records[record.name] = sent._replace(state=record.state, result=record.result or sent.result)
        return [self._records[record.name] for record in records]

    async def reserve_position(self) -> int:
        """Return the position of a step that is recorded elsewhere. Record the failures that came before it."""
        await self.record([])
        return self._take_position()

    def _take_position(self) -> int:
        if self._next_position > MAX_STEPS:
            raise DurableError(f"a job may have {MAX_STEPS} steps at most: give parts of the work to child jobs")
        self._next_position += 1
        return self._next_position - 1

    def add(self, record: StepRecord) -> None:
        """Add a step that was recorded elsewhere."""
        self._records[record.name] = record

    def interrupt(self, error: Exception) -> None:
        """Let all further durable calls of this delivery raise an error, because the state of a step is not known."""
        self._interruption = error

    def fail_later(self, record: StepRecord) -> None:
        """Record a failure with the next step: the handler has caught it, and goes on."""
        self._failures[record.name] = record

    async def _load_once(self) -> None:
        async with self._lock:
            if self._is_loaded:
                return
            after, has_more = 0, True
            while has_more:
                page = await self.exchange(self.client.load(after))
                for record in page.records:
                    self._records[record.name] = record
                    after = record.position
                has_more = page.has_more and bool(page.records)
            self._next_position = after + 1
            self._unread = set(self._records)
            self._is_loaded = True

    async def exchange(self, exchange: Coroutine[Any, Any, R]) -> R:
        """Await an exchange with the platform side. If the job is not held any more, this ends the delivery."""
        try:
            return await exchange
        except JobNotHeld:
            self.is_lost = True
        self._stop()
        return await self._never()

    # Sleeps, signals, versions

    async def sleep(self, name: str, spec: Mapping[str, Any]) -> None:
        """See ``DurableMethods.sleep``."""
        await self.wait(self.name_of(name), "sleep", spec)

    async def sleep_until(self, name: str, time: datetime) -> None:
        """See ``DurableMethods.sleep_until``."""
        if time.tzinfo is None:
            raise DurableError(f"sleep_until({time!r}): the time has no time zone. Use datetime.now(UTC) + ...")
        await self.sleep(name, {"until": time.isoformat()})

    async def wait_for(self, event: str, seconds: float | None, payload_type: Any, name: str | None) -> Any:
        """See ``DurableMethods.wait_for``."""
        key = self.name_of(event, prefix="wait:") if name is None else self.name_of(name)
        spec: dict[str, Any] = {"event": event}
        if seconds is not None:
            spec["seconds"] = max(seconds, 0.0)
        record = await self.wait(key, "wait", spec)
        if record.state == "timed_out":
            raise WaitTimeout(f"no signal {event!r} came in time")
        return validate_json(record.result, payload_type, f"the payload of the signal {event!r}")

    async def version(self, name: str) -> bool:
        """See ``DurableMethods.version``."""
        key = self.name_of(name, prefix="version:")
        with self.activity():
            record = await self.recorded(key, "step")
            if record is None:
                is_new = not self._unread
                [record] = await self.record([StepRecord(0, key, "step", result="true" if is_new else "false")])
        return record.result == "true"

    def add_then(self, spec: Mapping[str, Any]) -> None:
        """See ``DurableMethods.then``."""
        self._require_open("then")
        self._then.append(spec)

    async def wait(self, name: str, kind: StepKind, spec: Mapping[str, Any]) -> StepRecord:
        """Return the record of a wait that has ended; until then, park."""
        with self.activity():
            record = await self.recorded(name, kind)
            if record is None:
                [record] = await self.record([StepRecord(0, name, kind, "waiting", spec=spec)])
        self.observer.event(kind, {"step": name, "event": spec.get("event"), "state": record.state})
        if record.state == "waiting":
            await self.park_for(record.group or record.position)
        return record

    # Parking

    @contextlib.contextmanager
    def activity(self) -> Iterator[None]:
        """Do not park within the block."""
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            self._check_soon()

    async def park_for(self, group: int) -> None:
        """Wait for a group of steps. This never returns: the delivery ends, and the next one finds the group ended."""
        if len(set(self._waits.values()) | {group}) > MAX_WAIT_GROUPS:
            raise DurableError(
                f"a job may wait for {MAX_WAIT_GROUPS} things at once: use ctx.gather(*calls) for children"
            )
        future = self._loop.create_future()
        self._waits[future] = group
        self._check_soon()
        try:
            await future
        finally:
            del self._waits[future]

    async def _never(self) -> NoReturn:
        """Wait for the end of the delivery."""
        if self._handler is None:
            raise RunParked
        await self.park_for(0)
        raise RunParked

    def _check_soon(self) -> None:
        self._changes += 1
        self._loop.call_soon(self._check, _IDLE_TURNS, self._changes)

    def _check(self, turns: int, changes: int) -> None:
        """Park if nothing has happened in the last turns of the event loop but waiting."""
        if self._is_closed or self.is_lost or self.waiting_for:
            return
        if self._active or not self._waits or changes != self._changes:
            return
        if turns:
            self._loop.call_soon(self._check, turns - 1, changes)
            return
        self.waiting_for = tuple(sorted(set(self._waits.values())))
        self._stop()

    def _stop(self) -> None:
        if self._handler is not None:
            self._handler.cancel()
            return
        for future in self._waits:
            if not future.done():
                future.set_exception(RunParked())

    # The end of the delivery

    async def complete(self) -> None:
        """End the delivery of a handler that has returned.

        Raises:
            RunParked: The handler did not let its cancellation pass.
        """
        if self.waiting_for or self.is_lost:
            raise RunParked
        if self._then:
            records = [StepRecord(0, self.name_of("then"), "then", "waiting", spec=spec) for spec in self._then]
            with self.activity():
                await self._load_once()
                await self.record(records)
        self._close()

    def ends_with(self, error: BaseException) -> bool:
        """Return whether the handler ended because this run stopped it. Undo the cancellation of its task."""
        self._close()
        if not (self.waiting_for or self.is_lost) or not isinstance(error, asyncio.CancelledError | RunParked):
            return False
        if self._handler is not None and isinstance(error, asyncio.CancelledError):
            self._handler.uncancel()
        return True

    def _close(self) -> None:
        self._is_closed = True
        for future in list(self._waits):
            future.cancel()  # of tasks that the handler has not awaited

    def run_from_thread(self, awaitable: Coroutine[Any, Any, R]) -> R:
        """See ``DurableMethods.run``."""
        if self._handler is not None:
            awaitable.close()
            raise DurableError("ctx.run is for sync handlers: await the call")
        if self._app_loop is None:
            return asyncio.run(awaitable)
        context = contextvars.copy_context()

        async def in_context() -> R:
            return await asyncio.create_task(awaitable, context=context)

        return asyncio.run_coroutine_threadsafe(in_context(), self._app_loop).result()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._app_loop or asyncio.get_running_loop()

    def _require_open(self, name: str) -> None:
        if self._interruption is not None:
            raise self._interruption
        if self._is_closed:
            raise DurableError(f"{name!r} was called after the handler had ended: await it in the handler")
        step = current_step.get()
        if step is not None:
            raise DurableError(f"{name!r} was called in the step {step!r}: call it from the handler")


def open_run(support: "DurableSupport | None", ids: Ids) -> DurableRun:
    """Begin the run of a job at its first durable call.

    Raises:
        DurableError: The worker does not record steps.
    """
    if support is None:
        return DurableRun(InlineSteps(), RunObserver(None, ids), has_records=False, handler=None, threads=None)
    if support.open_steps is None:
        raise DurableError(
            "durable calls need jobfn's schema, worker and callback server: this worker sent no X-Durable header"
        )
    return DurableRun(
        support.open_steps(),
        RunObserver(support.instrumentation, ids),
        has_records=support.has_steps,
        handler=support.handler_task,
        threads=support.threads,
        loop=support.event_loop,
    )
