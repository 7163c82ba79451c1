"""What a chaos run came to: its figures, and what must not have happened.

Pure: the ledger and the rows come in, a ``Verdict`` goes out.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.cluster import Member
from chaos.ledger import Delivery, Ledger
from chaos.plan import PlannedJob

Row = Mapping[str, Any]
#: Of one kind of trouble, so much is shown.
SHOWN = 10
#: The driver's pool says so of itself, with a traceback, for as long as there is no database.
NOISE = "Failed to restore the pool connection floor"
TRACEBACK = re.compile(r'"exception": "|Traceback \(most recent call last\)')


@dataclass(frozen=True)
class Rows:
    """What the database holds at the end.

    Attributes:
        effects: What the handlers did, in the order in which they began.
        planned: Which calls of add_job were committed, with the ids that they returned.
        jobs: What is left of the jobs.
        queue_locks: The queues that are held.
    """

    effects: Sequence[Row]
    planned: Sequence[Row]
    jobs: Sequence[Row]
    queue_locks: Sequence[Row]


@dataclass(frozen=True)
class Verdict:
    """The end of a run.

    Attributes:
        figures: What was done, and what came of it, as text.
        troubles: What must not have happened; empty after a good run.
    """

    figures: str
    troubles: Sequence[str]


@dataclass(frozen=True)
class Evidence:
    """All that a judgement rests on."""

    plan: Sequence[PlannedJob]
    ledger: Ledger
    rows: Rows

    @property
    def last_versions(self) -> dict[int, PlannedJob]:
        """Of each number, the call of add_job that counts."""
        return {job.number: job for job in sorted(self.plan, key=lambda job: job.version)}

    def delivery_of(self, effect: Row) -> Delivery:
        """The delivery that an effect belongs to."""
        sequence: int = effect["delivery"]
        return self.ledger.deliveries[sequence - 1]


def judge(
    seed: int, plan: Sequence[PlannedJob], ledger: Ledger, rows: Rows, members: Sequence[Member], *, seconds: float
) -> Verdict:
    """See the module."""
    evidence = Evidence(plan, ledger, rows)
    checks = {
        "lost": list(lost(evidence)),
        "left over": list(left_over(evidence)),
        "locked": [f"job {job['id']} by {job['locked_by']}" for job in rows.jobs if job["locked_at"]]
        + [f"queue {lock['queue_name']} by {lock['locked_by']}" for lock in rows.queue_locks],
        "overlapped": list(overlapped(evidence)),
        "repeated": ledger.unexplained({delivery.job for delivery in ledger.deliveries}),
        "stale": ledger.stale,
        "ended": [text for member in members for text in member.ended],
        "tracebacks": list(tracebacks(members)),
    }
    troubles = [f"{kind}: {text}" for kind, found in checks.items() for text in found[:SHOWN]]
    counts = {kind: len(found) for kind, found in checks.items()}
    return Verdict("\n".join(_figures(seed, evidence, counts, seconds)), troubles)


def lost(evidence: Evidence) -> Iterator[str]:
    """Jobs without their effect."""
    committed = {(row["number"], row["version"]): row["job"] for row in evidence.rows.planned}
    succeeded = {(row["number"], row["version"]) for row in evidence.rows.effects if row["succeeded"]}
    failed = {row["number"] for row in evidence.rows.effects if not row["succeeded"]}
    for number, job in evidence.last_versions.items():
        key = (number, job.version)
        if key not in committed:
            yield f"number {number} version {job.version} was never added"
        elif key not in succeeded if not job.hopeless else number not in failed:
            row = next((row for row in evidence.rows.jobs if row["id"] == committed[key]), None)
            yield f"number {number} version {job.version} ({job.task}, job {committed[key]}) left no effect: {row}"


def left_over(evidence: Evidence) -> Iterator[str]:
    """Rows of jobs that are neither permanently failed as planned, nor superseded by a later job of their key."""
    of_last = {row["number"]: row["job"] for row in sorted(evidence.rows.planned, key=lambda row: row["version"])}
    number_of = {row["job"]: row["number"] for row in evidence.rows.planned}
    for row in evidence.rows.jobs:
        number = number_of.get(row["id"])
        is_over = row["attempts"] >= row["max_attempts"] and bool(row["last_error"])
        superseded = number is not None and of_last[number] != row["id"]
        hopeless = number is not None and evidence.last_versions[number].hopeless
        if is_over and (superseded or (hopeless and row["last_error"] == f"number {number} is hopeless")):
            continue
        yield f"job {row['id']} (number {number}), attempts {row['attempts']}, last error {row['last_error']}"


def overlapped(evidence: Evidence) -> Iterator[str]:
    """Jobs of one queue that ran at once, though the first of them held it."""
    by_queue: dict[str, list[Row]] = defaultdict(list)
    for effect in evidence.rows.effects:
        if effect["queue"] is not None:
            by_queue[effect["queue"]].append(effect)
    for queue, effects in by_queue.items():
        for place, first in enumerate(effects):
            for second in effects[place + 1 :]:
                if second["started"] >= first["ended"]:
                    break
                one, other = evidence.delivery_of(first), evidence.delivery_of(second)
                if not one.causes_before(other.began_at):
                    yield f"{queue}: delivery {one.sequence} (job {one.job}) and {other.sequence} (job {other.job})"


def tracebacks(members: Sequence[Member]) -> Iterator[str]:
    """What a worker's log should not hold, whatever happens to it."""
    for member in members:
        if not member.name.startswith("worker"):
            continue
        for line in member.log.read_text(errors="replace").splitlines():
            if TRACEBACK.search(line) and NOISE not in line:
                yield f"{member.name}: {line[:3000]}"


def doubles(evidence: Evidence) -> Counter[str]:
    """Why jobs were done more than once: for each effect that was not a job's last, the first thing that had hit it."""
    by_job: dict[tuple[int, int], list[Delivery]] = defaultdict(list)
    for effect in evidence.rows.effects:
        if effect["succeeded"]:
            by_job[effect["job"], effect["version"]].append(evidence.delivery_of(effect))
    found: Counter[str] = Counter()
    for deliveries in by_job.values():
        ordered = sorted(deliveries, key=lambda delivery: delivery.sequence)
        for first, second in itertools.pairwise(ordered):
            causes = first.causes_before(second.began_at)
            found[causes[0] if causes else "no reason"] += 1
    return found


def _figures(seed: int, evidence: Evidence, counts: Mapping[str, int], seconds: float) -> Iterator[str]:
    ledger, rows = evidence.ledger, evidence.rows
    found = doubles(evidence)
    ran = [delivery for delivery in ledger.deliveries if not delivery.refused]
    effects = sum(row["succeeded"] for row in rows.effects)
    yield f"chaos, CHAOS_SEED={seed}: {seconds:.1f} s"
    yield f"  jobs {len(evidence.last_versions)}, calls of add_job {len(rows.planned)}, deliveries {len(ran)}"
    yield f"  effects {effects}, doubles {sum(found.values())}{_listed(found)}"
    yield f"  kills {_sum(ledger.counts, 'kill ')}"
    yield f"  starts without a database {ledger.counts['start without a database']}"
    yield f"  stalls that nobody caused {_sum(ledger.counts, 'stall ')}"
    yield f"  deliveries hurt {_sum(ledger.counts, 'delivery ')}"
    yield f"  batches of reports {ledger.counts['batch of reports']}"
    yield f"  reports hurt {_sum(ledger.counts, 'report ')}"
    yield f"  signs of life hurt {_sum(ledger.counts, 'heartbeat ')}"
    yield f"  reports answered: {_listed(ledger.answers).strip(' ()')}"
    yield f"  failed for good {len(rows.jobs)}"
    yield f"  {_listed(counts).strip(' ()')}"


def _sum(counts: Mapping[str, int], prefix: str) -> str:
    found = Counter({name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)})
    return f"{sum(found.values())}{_listed(found)}"


def _listed(counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f" ({listed})" if listed else ""
