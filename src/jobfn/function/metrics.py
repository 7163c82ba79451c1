"""Metrics of a function, for ``GET /metrics``.

The ``task`` label holds only the function's own tasks, so that requests for others cannot add labels.
"""

from collections.abc import Iterable
from typing import NamedTuple

from jobfn.function.outcome import ACCEPTED_STATUS, DeliveryOutcome
from jobfn.telemetry.metrics import Counter, Histogram, Metric
from jobfn.telemetry.tracing import Tracing

#: Label of requests for an unknown task.
UNKNOWN_TASK = "(unknown)"
_OUTCOME_LABELS = {
    200: "succeeded",
    401: "unauthorized",
    429: "busy",
    499: "cancelled",
    500: "failed",
    503: "stopped",
    504: "timed_out",
}


def outcome_label(outcome: DeliveryOutcome) -> str:
    """Return the name of an outcome in metrics and traces; ``refused`` for an invalid request or payload."""
    if outcome.report.status == "parked":
        return "parked"
    return _OUTCOME_LABELS.get(outcome.status_code, "refused")


class FunctionMetrics:
    """The counters of one function app."""

    def __init__(self, tasks: Iterable[str] = ()) -> None:
        self._running = dict.fromkeys(tasks, 0)
        self._jobs = Counter((task, label) for task in self._running for label in ("succeeded", "failed"))
        self._durations = Histogram()
        self.reports = Counter((result,) for result in ("acknowledged", "conflict", "refused", "abandoned"))
        self.report_retries = Counter([()])
        #: Steps of durable functions, by task and result: ``executed``, or ``replayed`` from the record.
        self.steps = Counter()

    def record_outcome(self, task: str | None, outcome: DeliveryOutcome) -> None:
        """Count an outcome, with ``task=None`` for an unknown task. An accepted job has no outcome yet."""
        if outcome.status_code != ACCEPTED_STATUS:
            self._jobs.add(task or UNKNOWN_TASK, outcome_label(outcome))

    def handler_started(self, task: str) -> None:
        """Count a running handler."""
        self._running[task] += 1

    def handler_finished(self, task: str, seconds: float) -> None:
        """Record the duration of a handler that no longer runs."""
        self._running[task] -= 1
        self._durations.observe(seconds, task)

    def collect(self) -> list[Metric]:
        """Return all metrics for a scrape."""
        in_flight: dict[tuple[str, ...], float] = {(task,): running for task, running in self._running.items()}
        return [
            Metric(
                "jobfn_function_jobs_total", "Finished deliveries by task and outcome.", ("task", "outcome"), self._jobs
            ),
            Metric("jobfn_function_duration_seconds", "Duration of handlers in seconds.", ("task",), self._durations),
            Metric("jobfn_function_in_flight", "Running handlers, background jobs included.", ("task",), in_flight),
            Metric(
                "jobfn_function_reports_total", "Reports to the callback server by result.", ("result",), self.reports
            ),
            Metric(
                "jobfn_function_report_retries_total",
                "Report retries after a connection error or a 5xx of the callback server.",
                (),
                self.report_retries,
            ),
            Metric(
                "jobfn_function_steps_total", "Steps of durable functions by result.", ("task", "result"), self.steps
            ),
        ]


class Instrumentation(NamedTuple):
    """The metrics and the tracing of one function app."""

    metrics: FunctionMetrics
    tracing: Tracing
