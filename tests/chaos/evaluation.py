"""Evaluate a chaos run: a summary, and violations of jobfn's guarantees."""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.delivery_log import Delivery, DeliveryLog
from chaos.plan import PlannedJob
from chaos.processes import ManagedProcess

Row = Mapping[str, Any]
MAX_SHOWN_VIOLATIONS = 10
MAX_LINE_CHARACTERS = 3000
#: The driver's pool logs this with a traceback while there is no database.
EXPECTED_TRACEBACK = "Failed to restore the pool connection floor"
TRACEBACK = re.compile(r'"exception": "|Traceback \(most recent call last\)')


@dataclass(frozen=True)
class RowExpressions:
    """Rows of the database at the end."""

    effects: Sequence[Row]
    planned: Sequence[Row]
    jobs: Sequence[Row]
    queue_locks: Sequence[Row]


@dataclass(frozen=True)
class Evaluation:
    """Result of a run."""

    summary: str
    violations: Sequence[str]


@dataclass(frozen=True)
class RunData:
    """Everything that a run recorded."""

    plan: Sequence[PlannedJob]
    log: DeliveryLog
    rows: RowExpressions

    @property
    def last_versions(self) -> dict[int, PlannedJob]:
        """The last version of each job, which must have its effect."""
        return {job.number: job for job in sorted(self.plan, key=lambda job: job.version)}

    def delivery_of(self, effect: Row) -> Delivery:
        """Return the delivery of an effect."""
        sequence: int = effect["delivery"]
        return self.log.deliveries[sequence - 1]


def evaluate(seed: int, run: RunData, processes: Sequence[ManagedProcess], *, seconds: float) -> Evaluation:
    """Evaluate a run of this duration."""
    checks = {
        "lost": list(lost_jobs(run)),
        "remaining": list(remaining_jobs(run)),
        "locked": [f"job {job['id']} by {job['locked_by']}" for job in run.rows.jobs if job["locked_at"]]
        + [f"queue {lock['queue_name']} by {lock['locked_by']}" for lock in run.rows.queue_locks],
        "overlapping": list(overlapping_jobs(run)),
        "repeated": run.log.unexplained_repetitions(),
        "stale reports": run.log.stale_reports,
        "exits": [text for process in processes for text in process.unexpected_exits],
        "tracebacks": list(tracebacks(processes)),
    }
    violations = [f"{check}: {text}" for check, texts in checks.items() for text in texts[:MAX_SHOWN_VIOLATIONS]]
    counts = {check: len(texts) for check, texts in checks.items()}
    return Evaluation("\n".join(_summary_lines(seed, run, counts, seconds)), violations)


def lost_jobs(run: RunData) -> Iterator[str]:
    """Yield jobs without their effect."""
    committed = {(row["number"], row["version"]): row["job"] for row in run.rows.planned}
    succeeded = {(row["number"], row["version"]) for row in run.rows.effects if row["succeeded"]}
    failed = {row["number"] for row in run.rows.effects if not row["succeeded"]}
    for number, job in run.last_versions.items():
        key = (number, job.version)
        if key not in committed:
            yield f"number {number} version {job.version} was not added"
        elif number not in failed if job.fails_permanently else key not in succeeded:
            row = next((row for row in run.rows.jobs if row["id"] == committed[key]), None)
            yield f"number {number} version {job.version} ({job.task}, job {committed[key]}) has no effect: {row}"


def remaining_jobs(run: RunData) -> Iterator[str]:
    """Yield jobs that neither failed permanently as planned nor were replaced by a later job with their key."""
    last_jobs = {row["number"]: row["job"] for row in sorted(run.rows.planned, key=lambda row: row["version"])}
    numbers = {row["job"]: row["number"] for row in run.rows.planned}
    for row in run.rows.jobs:
        number = numbers.get(row["id"])
        has_failed = row["attempts"] >= row["max_attempts"] and bool(row["last_error"])
        is_replaced = number is not None and last_jobs[number] != row["id"]
        fails_permanently = number is not None and run.last_versions[number].fails_permanently
        as_planned = fails_permanently and row["last_error"] == f"number {number} fails permanently"
        if not (has_failed and (is_replaced or as_planned)):
            yield f"job {row['id']} (number {number}), attempts {row['attempts']}, last error {row['last_error']}"


def overlapping_jobs(run: RunData) -> Iterator[str]:
    """Yield jobs of one queue that ran at the same time while the first held the queue."""
    by_queue: dict[str, list[Row]] = defaultdict(list)
    for effect in run.rows.effects:
        if effect["queue"] is not None:
            by_queue[effect["queue"]].append(effect)
    for queue, effects in by_queue.items():
        for index, first in enumerate(effects):
            for second in effects[index + 1 :]:
                if second["started"] >= first["ended"]:
                    break
                one, other = run.delivery_of(first), run.delivery_of(second)
                if not one.causes_before(other.started_at):
                    yield f"{queue}: delivery {one.sequence} (job {one.job}) and {other.sequence} (job {other.job})"


def tracebacks(processes: Sequence[ManagedProcess]) -> Iterator[str]:
    """Yield unexpected tracebacks in the logs of workers."""
    for process in processes:
        if not process.name.startswith("worker"):
            continue
        for line in process.output.read_text(errors="replace").splitlines():
            if TRACEBACK.search(line) and EXPECTED_TRACEBACK not in line:
                yield f"{process.name}: {line[:MAX_LINE_CHARACTERS]}"


def repetition_causes(run: RunData) -> Counter[str]:
    """Count the causes of repeated effects: of each effect that was not a job's last, the most probable one."""
    by_job: dict[tuple[int, int], list[Delivery]] = defaultdict(list)
    for effect in run.rows.effects:
        if effect["succeeded"]:
            by_job[effect["job"], effect["version"]].append(run.delivery_of(effect))
    counts: Counter[str] = Counter()
    for deliveries in by_job.values():
        for first, second in itertools.pairwise(sorted(deliveries, key=lambda delivery: delivery.sequence)):
            causes = first.causes_before(second.started_at)
            counts[causes[0] if causes else "no cause"] += 1
    return counts


def _summary_lines(seed: int, run: RunData, violations: Mapping[str, int], seconds: float) -> Iterator[str]:
    log, rows = run.log, run.rows
    repetitions = repetition_causes(run)
    deliveries = sum(not delivery.rejected for delivery in log.deliveries)
    effects = sum(row["succeeded"] for row in rows.effects)
    yield f"chaos, CHAOS_SEED={seed}: {seconds:.1f} s"
    yield f"  jobs {len(run.last_versions)}, calls of add_job {len(rows.planned)}, deliveries {deliveries}"
    yield f"  effects {effects}, repeated {_total(repetitions)}"
    yield f"  kills {_total(_with_prefix(log.counts, 'kill '))}"
    yield f"  starts without a database {log.counts['start without a database']}"
    yield f"  stalls {_total(_with_prefix(log.counts, 'stall '))}"
    for kind in ("delivery", "report", "heartbeat"):
        yield f"  {kind} faults {_total(_with_prefix(log.counts, f'{kind} '))}"
    yield f"  batches of reports {log.counts['batch of reports']}"
    yield f"  responses to reports {_total(log.report_statuses)}"
    yield f"  permanently failed {len(rows.jobs)}"
    yield f"  violations {_total(violations)}"


def _with_prefix(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}


def _total(counts: Mapping[str, int]) -> str:
    items = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"{sum(counts.values())} ({items})" if items else "0"
