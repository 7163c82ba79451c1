"""A ``StepStore`` that records steps for a test, and lets deliveries crash at them."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

from jobfn.database.step_store import HeldJob, StepStore
from jobfn.testing.clock import JobsClock
from jobfn.testing.memory_steps import RecordedStep
from jobfn.wire.steps import StepPage, StepRecord

CRASH_ERROR: Final = "the test's crash at a step"


class Crashes:
    """The crashes that a test asks for. Each happens once.

    Args:
        crash_in: Names of steps. The delivery ends before the step is recorded.
        crash_after: Names of steps. The delivery ends after the step was recorded.
    """

    def __init__(self, crash_in: str | Sequence[str], crash_after: str | Sequence[str]) -> None:
        self._crash_in = _names(crash_in)
        self._crash_after = _names(crash_after)

    @property
    def remaining(self) -> list[str]:
        """The names that no delivery has come to."""
        return [*self._crash_in, *self._crash_after]

    def take(self, name: str) -> bool | None:
        """Return whether a crash at this step follows the record; None if there is none."""
        for names, is_recorded in ((self._crash_in, False), (self._crash_after, True)):
            if name in names:
                names.remove(name)
                return is_recorded
        return None


class RecordingSteps:
    """A ``StepStore`` in front of another one.

    Args:
        store: Stores the steps.
        clock: The test's clock. Absolute times are this clock's.
        crashes: Which deliveries end at a step.
        on_crash: Called when a delivery has crashed.

    Attributes:
        recorded: The steps by job and attempt.
        crashed: The deliveries that have crashed: job and attempt.
    """

    def __init__(
        self, store: StepStore, clock: JobsClock, crashes: Crashes, on_crash: Callable[[HeldJob], Awaitable[None]]
    ) -> None:
        self._store = store
        self._clock = clock
        self._crashes = crashes
        self._on_crash = on_crash
        self.recorded: dict[tuple[int, int], list[RecordedStep]] = {}
        self.crashed: set[tuple[int, int]] = set()

    async def record(
        self, entries: Sequence[tuple[HeldJob, StepRecord]], *, lease_seconds: float
    ) -> dict[int, dict[int, StepRecord]]:
        """See ``StepStore.record``. A job whose delivery crashes is missing in the response."""
        crashing: dict[HeldJob, bool] = {}
        for job, step in entries:
            if job not in crashing and (is_recorded := self._crashes.take(step.name)) is not None:
                crashing[job] = is_recorded
        self.crashed |= {(job.job_id, job.attempt) for job, is_recorded in crashing.items() if not is_recorded}
        stored = [
            (job, self._in_real_time(step)) for job, step in entries if (job.job_id, job.attempt) not in self.crashed
        ]
        recorded = await self._store.record(stored, lease_seconds=lease_seconds) if stored else {}
        for job, step in stored:
            if job.job_id in recorded:
                state = recorded[job.job_id][step.position]
                self.recorded.setdefault((job.job_id, job.attempt), []).append(
                    RecordedStep.from_record(step._replace(state=state.state, result=state.result or step.result))
                )
        for job in crashing:
            self.crashed.add((job.job_id, job.attempt))
            await self._on_crash(job)
        return {job_id: steps for job_id, steps in recorded.items() if job_id not in {job.job_id for job in crashing}}

    async def load(self, jobs: Sequence[tuple[HeldJob, int]]) -> dict[int, StepPage]:
        """See ``StepStore.load``."""
        return await self._store.load(
            [entry for entry in jobs if (entry[0].job_id, entry[0].attempt) not in self.crashed]
        )

    def _in_real_time(self, step: StepRecord) -> StepRecord:
        if step.spec is None or "until" not in step.spec:
            return step
        until = datetime.fromisoformat(step.spec["until"]) - self._clock.offset()
        return step._replace(spec={**step.spec, "until": until.isoformat()})


def _names(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
