"""What a worker, or a callback server, counts about itself, for ``/metrics``.

Whoever may enqueue chooses the names of tasks: only so many of them become labels (``metrics/numbers.py``).
``metrics_server.py`` exposes it, with what the database says of the queue.
"""

from collections.abc import Sequence
from typing import Final

from jobfn.database.records import Job, SettledJob
from jobfn.telemetry.metrics import Counter, Histogram, LabelLimiter, Metric

#: How many settlements share a commit.
BATCHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
#: What a report came to, by the status of its answer; every other one is a refusal.
_RESULTS: Final = {200: "settled", 409: "too_late", 500: "broken", 503: "no_database"}


class WorkerMetrics:
    """See the module.

    Args:
        slots: How many requests to functions the worker makes at a time; 0 where there is none.
    """

    def __init__(self, *, slots: int = 0) -> None:
        self._names = LabelLimiter()
        self._slots = slots
        self._in_flight = 0
        self._endings = Counter()
        self._deliveries = Counter()
        self._seconds = Histogram()
        self._waited = Histogram()
        self._claims = Counter((result,) for result in ("jobs", "nothing"))
        self._reports = Counter((result,) for result in (*_RESULTS.values(), "refused"))
        self._batches = Histogram(BATCHES)
        #: How many settlements this process has committed.
        self.settled = 0

    def claimed(self, jobs: Sequence[Job]) -> None:
        """A claim brought these."""
        self._claims.add("jobs" if jobs else "nothing")
        for job in jobs:
            self._waited.observe(job.waited_seconds, self._names.label(job.task))

    def sent(self) -> None:
        """A job is on its way to its function."""
        self._in_flight += 1

    def answered(self, task: str, result: str, seconds: float) -> None:
        """It came to this, after so many seconds."""
        self._in_flight -= 1
        label = self._names.label(task)
        self._deliveries.add(label, result)
        self._seconds.observe(seconds, label)

    def ended(self, ending: SettledJob) -> None:
        """A settlement changed its job."""
        self._endings.add(self._names.label(ending.task), ending.settlement.outcome.value)

    def committed(self, settlements: int) -> None:
        """So many settlements shared a commit."""
        self._batches.observe(settlements)
        self.settled += settlements

    def reported(self, status: int) -> None:
        """A report was answered with this status."""
        self._reports.add(_RESULTS.get(status, "refused"))

    def families(self) -> list[Metric]:
        """All of it, for a scrape."""
        return [
            Metric(
                "jobfn_jobs_total",
                "Attempts whose end was written down by this process, by task and outcome.",
                ("task", "outcome"),
                self._endings,
            ),
            Metric(
                "jobfn_deliveries_total",
                "Requests to functions, by task and what they came to.",
                ("task", "result"),
                self._deliveries,
            ),
            Metric(
                "jobfn_delivery_duration_seconds",
                "How long functions took to answer, in seconds.",
                ("task",),
                self._seconds,
            ),
            Metric(
                "jobfn_job_queue_latency_seconds",
                "How long jobs had been due when they were claimed, in seconds.",
                ("task",),
                self._waited,
            ),
            Metric("jobfn_claims_total", "Looks for ready jobs, by what they found.", ("result",), self._claims),
            Metric("jobfn_reports_total", "Reports from functions, by what they came to.", ("result",), self._reports),
            Metric("jobfn_settlement_batch_size", "How many settlements shared a commit.", (), self._batches),
            Metric("jobfn_in_flight", "Requests to functions under way.", (), {(): self._in_flight}),
            Metric("jobfn_worker_concurrency", "How many there may be at a time.", (), {(): self._slots}),
        ]
