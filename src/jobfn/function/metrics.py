"""What a function counts about itself, for ``GET /metrics``.

Labels are the tasks that the function has; what strangers ask for does not become one.
"""

from collections.abc import Iterable

from jobfn.function.outcome import Outcome
from jobfn.telemetry.metrics import Counter, Histogram, Metric

#: What a request for a task that is not here is counted under.
UNKNOWN = "(unknown)"
#: What an outcome is called, by its status; every other one is a refusal: a payload, or a request, that does not fit.
_OUTCOMES = {
    200: "succeeded",
    401: "uninvited",
    429: "busy",
    500: "failed",
    503: "stopped",
    504: "timed_out",
}
_REFUSED = "refused"
_ACCEPTED = 202


def outcome_label(outcome: Outcome) -> str:
    """What an outcome is called in metrics and traces."""
    return _OUTCOMES.get(outcome.status_code, _REFUSED)


class FunctionMetrics:
    """See the module.

    Args:
        tasks: The identifiers of the function's tasks.

    Attributes:
        reports: Counts reports by what became of them.
        report_retries: Counts how often one was sent again.
    """

    def __init__(self, tasks: Iterable[str] = ()) -> None:
        self._running = dict.fromkeys(tasks, 0)
        # By status: what that is called is asked when somebody scrapes, and not at each job.
        self._jobs = dict.fromkeys(((task, status) for task in self._running for status in (200, 500)), 0)
        self._seconds = Histogram()
        self.reports = Counter((result,) for result in ("heard", "too_late", "refused", "given_up"))
        self.report_retries = Counter([()])

    def ended(self, task: str | None, outcome: Outcome) -> None:
        """A delivery ended so; None: of a task that is not here. One that is accepted has not ended."""
        key = task or UNKNOWN, outcome.status_code
        self._jobs[key] = self._jobs.get(key, 0) + 1

    def began(self, task: str) -> None:
        """A handler is at work."""
        self._running[task] += 1

    def took(self, task: str, seconds: float) -> None:
        """It no longer is, after so many seconds."""
        self._running[task] -= 1
        self._seconds.observe(seconds, task)

    def families(self) -> list[Metric]:
        """All of it, for a scrape."""
        jobs = Counter()
        for (task, status_code), count in list(self._jobs.items()):
            if status_code != _ACCEPTED:
                jobs.add(task, _OUTCOMES.get(status_code, _REFUSED), amount=count)
        in_flight: dict[tuple[str, ...], float] = {(task,): running for task, running in self._running.items()}
        return [
            Metric(
                "jobfn_function_jobs_total", "Deliveries that ended, by task and outcome.", ("task", "outcome"), jobs
            ),
            Metric("jobfn_function_duration_seconds", "How long handlers ran, in seconds.", ("task",), self._seconds),
            Metric("jobfn_function_in_flight", "Handlers at work now, background jobs too.", ("task",), in_flight),
            Metric(
                "jobfn_function_reports_total",
                "Reports to the callback server, by what became of them.",
                ("result",),
                self.reports,
            ),
            Metric(
                "jobfn_function_report_retries_total",
                "How often a report was sent again: the callback server was not there, or in trouble.",
                (),
                self.report_retries,
            ),
        ]
