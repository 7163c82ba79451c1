"""Evaluate a chaos run: violations of jobfn's guarantees. ``summary.py`` adds numbers."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.faults import mode_of
from chaos.processes import ManagedProcess
from chaos.run_data import Row, RunData
from chaos.summary import repetitions, summary_lines
from jobfn.worker.settings import SettlementMode

MAX_SHOWN_VIOLATIONS = 10
MAX_LINE_CHARACTERS = 3000
#: The driver's pool logs this with a traceback while there is no database.
EXPECTED_TRACEBACK = "Failed to restore the pool connection floor"
TRACEBACK = re.compile(r'"exception":"|Traceback \(most recent call last\)')


@dataclass(frozen=True)
class Evaluation:
    """Result of a run.

    Attributes:
        summary: What happened, for people.
        violations: What must not happen.
        jobs: Number of jobs.
        lost: Number of those without their effect that are not in the table.
        stuck: Number of those that are left in the table.
        doubled: Number of repeated effects by cause.
        batched: Number of jobs that were delivered in batches, in all modes together.
    """

    summary: str
    violations: Sequence[str]
    jobs: int
    lost: int
    stuck: int
    doubled: Counter[str]
    batched: int


def evaluate(run: RunData, processes: Sequence[ManagedProcess], *, seconds: float) -> Evaluation:
    """Evaluate a run of this duration."""
    checks = {
        "lost": list(lost_jobs(run)),
        "remaining": list(remaining_jobs(run)),
        "locked": [f"job {job['id']} by {job['locked_by']}" for job in run.rows.jobs if job["locked_at"]]
        + [f"queue {lock['queue_name']} by {lock['locked_by']}" for lock in run.rows.queue_locks],
        "results": list(wrong_results(run)),
        "batches": list(missing_batches(run)),
        "overlapping": list(overlapping_jobs(run)),
        "repeated": run.log.unexplained_repetitions(),
        "stale reports": run.log.stale_reports,
        "gateways": run.log.gateway_errors,
        "exits": [text for process in processes for text in process.unexpected_exits],
        "tracebacks": list(tracebacks(processes)),
    }
    violations = [f"{check}: {text}" for check, texts in checks.items() for text in texts[:MAX_SHOWN_VIOLATIONS]]
    counts = {check: len(texts) for check, texts in checks.items()}
    return Evaluation(
        "\n".join(summary_lines(run, counts, seconds)),
        violations,
        jobs=len(run.last_versions),
        lost=counts["lost"],
        stuck=counts["remaining"],
        doubled=Counter(each.causes[0] for each in repetitions(run)),
        batched=sum(run.log.counts[f"batched job {worker}"] for worker in run.options.workers),
    )


def lost_jobs(run: RunData) -> Iterator[str]:
    """Yield jobs without their effect that are not in the table any more. ``remaining_jobs`` has the others."""
    committed = {(row["number"], row["version"]): row["job"] for row in run.rows.planned}
    succeeded = {(row["number"], row["version"]) for row in run.rows.effects if row["succeeded"]}
    failed = {row["number"] for row in run.rows.effects if not row["succeeded"]}
    present = {row["id"] for row in run.rows.jobs}
    for number, job in run.last_versions.items():
        key = (number, job.version)
        if key not in committed:
            yield f"number {number} version {job.version} was not added"
        elif committed[key] in present:
            continue
        elif number not in failed if job.fails_permanently else key not in succeeded:
            yield f"number {number} version {job.version} ({job.task}, job {committed[key]}) has no effect"


def wrong_results(run: RunData) -> Iterator[str]:
    """Yield completed jobs whose stored result is missing or belongs to another job."""
    results = {row["job_id"]: json.loads(row["result"] or "null") for row in run.rows.results}
    last_jobs = {(row["number"], row["version"]): row["job"] for row in run.rows.planned}
    remaining = {row["id"] for row in run.rows.jobs}
    for number, job in run.last_versions.items():
        job_id = last_jobs.get((number, job.version))
        result = results.get(job_id)
        if job_id in remaining and not job.fails_permanently:
            continue
        if result != (None if job.fails_permanently else {"number": number, "version": job.version}):
            yield f"number {number} version {job.version}: {result}"


def missing_batches(run: RunData) -> Iterator[str]:
    """Yield a text if there were too few batches, or batches in a mode that has none."""
    jobs = Counter[SettlementMode | None]()
    for worker in run.options.workers:
        jobs[mode_of(worker)] += run.log.counts[f"batched job {worker}"]
    for mode in set(run.options.modes):
        if mode is SettlementMode.REPORT:
            if jobs[mode]:
                yield f"{jobs[mode]} jobs were delivered in batches although functions report each job"
        elif jobs[mode] < run.options.min_batched_jobs:
            yield f"only {jobs[mode]} jobs were delivered in batches by workers with JOBS_SETTLE_ON={mode}"


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
                is_copied = one.origin.is_repeated or other.original is not None
                if not is_copied and not run.log.causes(one, before=other.started_at):
                    yield f"{queue}: delivery {one.sequence} (job {one.job}) and {other.sequence} (job {other.job})"


def tracebacks(processes: Sequence[ManagedProcess]) -> Iterator[str]:
    """Yield unexpected tracebacks in the logs of workers."""
    for process in processes:
        if mode_of(process.name) is None:
            continue
        for line in process.output.read_text(errors="replace").splitlines():
            if TRACEBACK.search(line) and EXPECTED_TRACEBACK not in line:
                yield f"{process.name}: {line[:MAX_LINE_CHARACTERS]}"
