"""Whatever is done to jobs, in whatever order, the tables are what a few lines of Python say they should be.

Hypothesis makes up the order of work. ``Model`` is the contract's section 3 once more, without a database.
"""

import asyncio
from dataclasses import dataclass, field

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from support.jobs import settle

WORKERS = st.sampled_from(["worker-1", "worker-2"])
QUEUES = st.sampled_from([None, None, "a", "b"])
KEYS = st.sampled_from([None, None, "k", "l"])
PRIORITIES = st.sampled_from([-1, 0, 1])
MINUTES = st.sampled_from([-30, -20, -10, 30])  # the last one: delayed
LIMITS = st.sampled_from([1, 2, 25])


@dataclass
class Row:
    """A job, as far as it decides what happens."""

    id: int
    queue: str | None
    key: str | None
    priority: int
    minutes: int
    max_attempts: int
    attempts: int = 0
    holder: str | None = None
    expired: bool = False

    @property
    def held(self) -> bool:
        return self.holder is not None and not self.expired

    @property
    def ready(self) -> bool:
        return self.attempts < self.max_attempts and self.minutes <= 0 and not self.held

    @property
    def order(self) -> tuple[int, int, int]:
        return self.priority, self.minutes, self.id

    def free(self) -> None:
        self.holder, self.expired = None, False


@dataclass
class Model:
    """What the tables should hold."""

    jobs: dict[int, Row] = field(default_factory=dict)
    queues: dict[str, int] = field(default_factory=dict)  # held ones, and for which job

    def keyed(self, key: str | None) -> Row | None:
        return next((job for job in self.jobs.values() if key is not None and job.key == key), None)

    def add(self, new: Row) -> None:
        old = self.keyed(new.key)
        if old is not None and old.holder is not None:
            old.key, old.max_attempts = None, max(old.attempts, 1)
        elif old is not None:
            assert old.id == new.id, "the waiting job is replaced"
        self.jobs[new.id] = new

    def is_free(self, queue: str) -> bool:
        return queue not in self.queues or self.jobs[self.queues[queue]].expired

    def claim(self, worker: str, limit: int) -> list[int]:
        claimed: list[int] = []
        taken: set[str] = set()
        for job in sorted(self.jobs.values(), key=lambda job: job.order):
            queue = job.queue
            if len(claimed) == limit or not job.ready or queue in taken or (queue and not self.is_free(queue)):
                continue
            if queue is not None:
                taken.add(queue)
            claimed.append(job.id)
        for job_id in claimed:
            job = self.jobs[job_id]
            job.attempts, job.holder, job.expired = job.attempts + 1, worker, False
            if job.queue is not None:
                self.queues[job.queue] = job_id
        return claimed

    def let_go(self, job_id: int) -> None:
        self.queues = {queue: holder for queue, holder in self.queues.items() if holder != job_id}

    def counts(self) -> dict[str, int]:
        queues = [job.queue for job in self.jobs.values() if job.queue is not None]
        return {queue: queues.count(queue) for queue in queues}


class Machine(RuleBasedStateMachine):
    """The same steps on the model and on the database."""

    dsn: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.connection = self.runner.run(asyncpg.connect(self.dsn))
        self.sql("truncate app_jobs.jobs")
        self.model = Model()

    def teardown(self) -> None:
        self.runner.run(self.connection.close())
        self.runner.close()

    def sql(self, statement: str, *arguments: object) -> list["asyncpg.Record"]:
        async def fetch() -> list["asyncpg.Record"]:
            return list(await self.connection.fetch(statement, *arguments))

        return self.runner.run(fetch())

    def ids(self, statement: str, *arguments: object) -> list[int]:
        return [row["id"] for row in self.sql(statement, *arguments)]

    def some(self, numbers: list[int]) -> list[int]:
        """The jobs that these numbers pick."""
        ids = sorted(self.model.jobs)
        return [ids[number % len(ids)] for number in numbers]

    @rule(queue=QUEUES, key=KEYS, priority=PRIORITIES, minutes=MINUTES, max_attempts=LIMITS)
    def add(self, queue: str | None, key: str | None, priority: int, minutes: int, max_attempts: int) -> None:
        (job,) = self.ids(
            """
            select id from app_jobs.add_job(
                'x', '{}', $1, $2, date_trunc('day', now()) + $3 * interval '1 day', $4, $5
            )
            """,
            key,
            queue,
            minutes,
            max_attempts,
            priority,
        )
        self.model.add(Row(job, queue, key, priority, minutes, max_attempts))

    @rule(worker=WORKERS, limit=st.integers(1, 4))
    def claim(self, worker: str, limit: int) -> None:
        claimed = self.ids("select id from app_jobs.claim_jobs($1, null, '4 hours', $2)", worker, limit)
        assert claimed == self.model.claim(worker, limit)

    @rule(worker=WORKERS)
    def get_job(self, worker: str) -> None:
        claimed = self.ids("select id from app_jobs.get_job($1) where id is not null", worker)
        assert claimed == self.model.claim(worker, 1)

    @precondition(lambda self: self.model.jobs)
    @rule(worker=WORKERS, numbers=st.lists(st.integers(0, 9), max_size=3), failed=st.booleans(), stale=st.booleans())
    def settle(self, worker: str, numbers: list[int], failed: bool, stale: bool) -> None:  # noqa: FBT001
        jobs = [self.model.jobs[job_id] for job_id in self.some(numbers)]
        expected = {job.id for job in jobs if job.holder == worker and not stale}
        error = "boom" if failed else None
        rows = self.runner.run(
            settle(self.connection, *((worker, job.id, job.attempts - stale, error) for job in jobs))
        )
        settled = [row["id"] for row in rows]
        assert sorted(settled) == sorted(expected)
        for job_id in expected:
            self.model.let_go(job_id)
            if failed:
                self.model.jobs[job_id].free()
                self.model.jobs[job_id].minutes = 40
            else:
                del self.model.jobs[job_id]
        self.sql(
            "update app_jobs.jobs set run_at = date_trunc('day', now()) + interval '40 days' where id = any ($1)",
            list(expected),
        )

    @rule(worker=WORKERS)
    def release(self, worker: str) -> None:
        self.sql("select app_jobs.release_jobs($1)", worker)
        for job in self.model.jobs.values():
            if job.holder == worker:
                job.free()
                job.attempts = max(job.attempts - 1, 0)
                self.model.let_go(job.id)

    @precondition(lambda self: self.model.jobs)
    @rule(
        numbers=st.lists(st.integers(0, 9), max_size=3),
        act=st.sampled_from(["complete_jobs", "permanently_fail_jobs", "reschedule_jobs"]),
    )
    def by_hand(self, numbers: list[int], act: str) -> None:
        chosen = self.some(numbers)
        arguments = ", run_at := date_trunc('day', now()) - interval '5 days', attempts := 0"
        changed = self.ids(
            f"select id from app_jobs.{act}($1{arguments if act == 'reschedule_jobs' else ''})",
            chosen,
        )
        expected = {job_id for job_id in chosen if not self.model.jobs[job_id].held}
        assert sorted(changed) == sorted(expected)
        for job_id in expected:
            job = self.model.jobs[job_id]
            self.model.let_go(job_id)
            job.free()
            if act == "complete_jobs":
                del self.model.jobs[job_id]
            elif act == "permanently_fail_jobs":
                job.attempts = job.max_attempts
            else:
                job.attempts, job.minutes = 0, -5

    @rule()
    def workers_vanish(self) -> None:
        self.sql("update app_jobs.jobs set locked_at = now() - interval '5 hours' where locked_at is not null")
        self.sql("update app_jobs.job_queues set locked_at = now() - interval '5 hours' where locked_at is not null")
        for job in self.model.jobs.values():
            job.expired = job.holder is not None

    @precondition(lambda self: self.model.jobs)
    @rule(numbers=st.lists(st.integers(0, 9), max_size=2), queue=QUEUES, moved=st.booleans())
    def somebody_writes_the_table(self, numbers: list[int], queue: str | None, moved: bool) -> None:  # noqa: FBT001
        chosen = self.some(numbers)
        if moved:
            self.sql("update app_jobs.jobs set queue_name = $2 where id = any ($1)", chosen, queue)
        else:
            self.sql("delete from app_jobs.jobs where id = any ($1)", chosen)
        for job_id in set(chosen):
            if not moved:
                self.model.let_go(job_id)
                del self.model.jobs[job_id]
            elif self.model.jobs[job_id].queue != queue:
                self.model.let_go(job_id)
                self.model.jobs[job_id].queue = queue

    @invariant()
    def the_jobs_are_as_in_the_model(self) -> None:
        rows = self.sql("select * from app_jobs.jobs order by id")
        found = [
            (row["id"], row["queue_name"], row["key"], row["attempts"], row["max_attempts"], row["locked_by"])
            for row in rows
        ]
        assert found == [
            (job.id, job.queue, job.key, job.attempts, job.max_attempts, job.holder)
            for _, job in sorted(self.model.jobs.items())
        ]
        assert all(row["exhausted"] == (row["attempts"] >= row["max_attempts"]) for row in rows)

    @invariant()
    def the_queues_are_as_in_the_model(self) -> None:
        rows = self.sql("select queue_name, job_count, locked_by from app_jobs.job_queues")
        assert {row["queue_name"]: row["job_count"] for row in rows} == self.model.counts()
        holders = {queue: self.model.jobs[job_id].holder for queue, job_id in self.model.queues.items()}
        assert {row["queue_name"]: row["locked_by"] for row in rows if row["locked_by"]} == holders


@pytest.fixture
def machine(database: str) -> type[Machine]:
    """The machine on a database of its own."""
    return type("MachineHere", (Machine,), {"dsn": database})


def test_the_tables_follow_the_contract_step_by_step(machine: type[Machine]) -> None:
    """Random histories of adds, claims, ends, releases, hands and vanished workers: model and tables agree."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,  # the same histories everywhere: a failure in CI is one here
            suppress_health_check=list(HealthCheck),
        ),
    )
