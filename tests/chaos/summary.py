"""Summarize a chaos run: what happened, and how many jobs were repeated, by cause."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chaos.delivery_log import Delivery
from chaos.faults import POSTGRES, mode_of
from chaos.run_data import RunData


@dataclass(frozen=True)
class Repetition:
    """A job whose handler succeeded twice.

    Attributes:
        causes: The most probable cause, then others.
        was_answered: Whether the worker had been sent the response to the first one.
    """

    causes: Sequence[str]
    was_answered: bool = False


def repetitions(run: RunData) -> Iterator[Repetition]:
    """Yield the repeated effects: of each job, all but the first one."""
    by_job: dict[tuple[int, int], list[Delivery]] = defaultdict(list)
    for effect in run.rows.effects:
        if effect["succeeded"]:
            by_job[effect["job"], effect["version"]].append(run.delivery_of(effect))
    for deliveries in by_job.values():
        first, *others = sorted(deliveries, key=lambda delivery: delivery.sequence)
        for second in others:
            causes = run.log.causes(first.origin, before=second.started_at)
            if second.original is not None or (first.original is not None and not causes):
                yield Repetition(["repeated by the gateway"])
            else:
                yield Repetition(causes or ["no cause"], first.origin.answered_at is not None)
            if second.original is None:
                first = second


def summary_lines(run: RunData, violations: Mapping[str, int], seconds: float) -> Iterator[str]:
    """Yield the lines of the summary."""
    log, rows = run.log, run.rows
    repeated = list(repetitions(run))
    deliveries = sum(not delivery.rejected for delivery in log.deliveries)
    effects = sum(row["succeeded"] for row in rows.effects)
    modes = ", ".join(run.options.modes)
    batched_jobs = _total(_with_prefix(log.counts, "batched job "))
    yield f"chaos, CHAOS_SEED={run.options.seed}, JOBS_SETTLE_ON of the workers {modes}: {seconds:.1f} s"
    yield f"  jobs {len(run.last_versions)}, calls of add_job {len(rows.planned)}, deliveries {deliveries}"
    yield f"  batches of jobs {log.counts['request with several jobs']}, of reports {log.counts['batch of reports']}"
    yield f"  jobs in batches {batched_jobs}"
    yield f"  streamed responses {log.counts['streamed response']}"
    yield f"  effects {effects}, repeated {_total(Counter(each.causes[0] for each in repeated))}"
    yield from _killed_worker_lines(run, repeated)
    yield f"  kills {_total(_with_prefix(log.counts, 'kill '))}"
    yield f"  restarts {_total(_with_prefix(log.counts, 'restart '))}"
    yield f"  starts without a database {log.counts['start without a database']}"
    yield f"  stalls {_total(_with_prefix(log.counts, 'stall '))}"
    for kind in ("single delivery", "batch", "report", "heartbeat"):
        yield f"  {kind} faults {_total(_with_prefix(log.counts, f'{kind} fault '))}"
    yield f"  deliveries to a killed function {log.counts['delivery to a killed function']}"
    yield f"  responses to reports {_total(log.report_statuses)}"
    yield f"  permanently failed {len(rows.jobs)}"
    yield f"  violations {_total(violations)}"


def _killed_worker_lines(run: RunData, repeated: Sequence[Repetition]) -> Iterator[str]:
    """Yield how many jobs the killed workers of each mode caused to be repeated."""
    for mode in sorted(set(run.options.modes)):
        workers = [worker for worker in run.options.workers if mode_of(worker) is mode]
        causes = {f"{worker} killed" for worker in workers}
        jobs = [each for each in repeated if each.causes[0] in causes]
        yield (
            f"  repeated by {sum(run.log.counts[f'kill {worker}'] for worker in workers)} kills of {mode} workers "
            f"{len(jobs)}, {sum(each.was_answered for each in jobs)} of them after the response, "
            f"{sum(f'{POSTGRES} killed' in each.causes for each in jobs)} while the database was down too"
        )


def _with_prefix(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}


def _total(counts: Mapping[str, int]) -> str:
    items = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"{sum(counts.values())} ({items})" if items else "0"
