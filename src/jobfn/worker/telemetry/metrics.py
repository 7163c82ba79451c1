"""Metrics of a worker or a callback server, for ``/metrics``.

Anyone who can enqueue chooses task names, so the number of names that become labels is limited
(``telemetry/metrics.py``). ``metrics_server.py`` serves these metrics together with the depth of the queue.
"""

from collections.abc import Sequence
from typing import Final

from jobfn.database.records import Job, SettledJob
from jobfn.telemetry.metrics import Counter, Histogram, LabelLimiter, Metric

BATCH_SIZE_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
#: The label ``result`` of ``jobfn_reports_total``, by the status of the reply. Default: "refused".
_REPORT_RESULTS: Final = {200: "settled", 409: "conflict", 500: "error", 503: "unavailable"}


class WorkerMetrics:
    """Counters and histograms of one process, with a concurrency of 0 if it has no worker."""

    def __init__(self, *, concurrency: int = 0) -> None:
        self._concurrency = concurrency
        self._task_labels = LabelLimiter()
        self._in_flight = 0
        self._jobs = Counter()
        self._deliveries = Counter()
        self._delivery_seconds = Histogram()
        self._queue_seconds = Histogram()
        self._claims = Counter((result,) for result in ("claimed", "empty"))
        self._reports = Counter((result,) for result in (*_REPORT_RESULTS.values(), "refused"))
        self._batch_sizes = Histogram(BATCH_SIZE_BUCKETS)
        self._pruned = Counter((kind,) for kind in ("failed", "completed"))
        self.settlements = 0

    def record_claim(self, jobs: Sequence[Job]) -> None:
        """Count a claim, and observe the queue latency of its jobs."""
        self._claims.add("claimed" if jobs else "empty")
        for job in jobs:
            self._queue_seconds.observe(job.waited_seconds, self._task_labels.label(job.task))

    def record_request(self) -> None:
        """Count a request to a function as in flight."""
        self._in_flight += 1

    def record_response(self) -> None:
        """Count a request to a function as finished."""
        self._in_flight -= 1

    def record_delivery(self, task: str, result: str, seconds: float) -> None:
        """Count the delivery of a job by its result, and observe its duration."""
        label = self._task_labels.label(task)
        self._deliveries.add(label, result)
        self._delivery_seconds.observe(seconds, label)

    def record_settled_job(self, settled: SettledJob) -> None:
        """Count a settlement that changed its job."""
        self._jobs.add(self._task_labels.label(settled.task), settled.settlement.outcome.value)

    def record_cancelled(self, task: str) -> None:
        """Count a job that was cancelled while this worker had it in flight."""
        self._jobs.add(self._task_labels.label(task), "cancelled")

    def record_commit(self, batch_size: int) -> None:
        """Observe the size of a committed batch of settlements."""
        self._batch_sizes.observe(batch_size)
        self.settlements += batch_size

    def record_report(self, status: int) -> None:
        """Count a report by the status of its reply."""
        self._reports.add(_REPORT_RESULTS.get(status, "refused"))

    def record_pruned(self, kind: str, jobs: int) -> None:
        """Count ended jobs that were removed past their retention."""
        self._pruned.add(kind, amount=jobs)

    def collect(self) -> list[Metric]:
        """Return all metrics, for a scrape."""
        return [
            Metric(
                "jobfn_jobs_total",
                "Attempts settled by this process, by task and outcome.",
                ("task", "outcome"),
                self._jobs,
            ),
            Metric(
                "jobfn_deliveries_total",
                "Deliveries of jobs to functions, by task and result.",
                ("task", "result"),
                self._deliveries,
            ),
            Metric(
                "jobfn_delivery_duration_seconds",
                "Time from the request to the job's outcome, in seconds.",
                ("task",),
                self._delivery_seconds,
            ),
            Metric(
                "jobfn_job_queue_latency_seconds",
                "Time from when a job was due to its claim, in seconds.",
                ("task",),
                self._queue_seconds,
            ),
            Metric("jobfn_claims_total", "Claims, by whether they returned jobs.", ("result",), self._claims),
            Metric("jobfn_reports_total", "Reports from functions, by result.", ("result",), self._reports),
            Metric("jobfn_settlement_batch_size", "Settlements per commit.", (), self._batch_sizes),
            Metric(
                "jobfn_pruned_jobs_total", "Ended jobs that were removed past their retention.", ("kind",), self._pruned
            ),
            Metric("jobfn_in_flight", "Open requests to functions.", (), {(): self._in_flight}),
            Metric("jobfn_worker_concurrency", "Maximum number of open requests.", (), {(): self._concurrency}),
        ]
