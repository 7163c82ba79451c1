"""Random sequences of operations leave the tables in the state that a model of the contract (section 3) predicts."""

import asyncio
from dataclasses import dataclass, field

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from support.jobs import settle_jobs

WORKERS = st.sampled_from(["worker-1", "worker-2"])
QUEUES = st.sampled_from([None, None, "a", "b"])
KEYS = st.sampled_from([None, None, "k", "l"])
PRIORITIES = st.sampled_from([-1, 0, 1])
#: Due time in days from today; the last one is delayed.
DAYS = st.sampled_from([-30, -20, -10, 30])
MAX_ATTEMPTS = st.sampled_from([1, 2, 25])
NUMBERS = st.lists(st.integers(0, 9), max_size=3)


@dataclass
class ModelJob:
    """A job of the model."""

    id: int
    queue: str | None
    key: str | None
    priority: int
    days: int
    max_attempts: int
    attempts: int = 0
    worker: str | None = None
    expired: bool = False

    @property
    def is_running(self) -> bool:
        return self.worker is not None and not self.expired

    @property
    def is_ready(self) -> bool:
        return self.attempts < self.max_attempts and self.days <= 0 and not self.is_running

    @property
    def order(self) -> tuple[int, int, int]:
        return self.priority, self.days, self.id

    def unlock(self) -> None:
        self.worker, self.expired = None, False


@dataclass
class Model:
    """The expected content of the tables. ``queue_locks`` has the job that locks a queue."""

    jobs: dict[int, ModelJob] = field(default_factory=dict)
    queue_locks: dict[str, int] = field(default_factory=dict)

    def add(self, new: ModelJob) -> None:
        old = next((job for job in self.jobs.values() if new.key is not None and job.key == new.key), None)
        if old is not None and old.worker is not None:
            old.key, old.max_attempts = None, max(old.attempts, 1)
        elif old is not None:
            assert old.id == new.id, "the waiting job is replaced"
        self.jobs[new.id] = new

    def claim(self, worker: str, limit: int) -> list[int]:
        claimed: list[int] = []
        locked = {queue for queue, job_id in self.queue_locks.items() if not self.jobs[job_id].expired}
        for job in sorted(self.jobs.values(), key=lambda job: job.order):
            if len(claimed) == limit or not job.is_ready or job.queue in locked:
                continue
            if job.queue is not None:
                locked.add(job.queue)
            claimed.append(job.id)
        for job_id in claimed:
            job = self.jobs[job_id]
            job.attempts, job.worker, job.expired = job.attempts + 1, worker, False
            if job.queue is not None:
                self.queue_locks[job.queue] = job_id
        return claimed

    def unlock_queue(self, job_id: int) -> None:
        self.queue_locks = {queue: locker for queue, locker in self.queue_locks.items() if locker != job_id}

    def delete(self, job_id: int) -> None:
        self.unlock_queue(job_id)
        del self.jobs[job_id]

    def job_counts(self) -> dict[str, int]:
        queues = [job.queue for job in self.jobs.values() if job.queue is not None]
        return {queue: queues.count(queue) for queue in queues}


class Machine(RuleBasedStateMachine):
    """Runs the same operations on the model and on the database ``dsn``."""

    dsn: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.connection = self.runner.run(asyncpg.connect(self.dsn))
        self.fetch("truncate app_jobs.jobs")
        self.model = Model()

    def teardown(self) -> None:
        self.runner.run(self.connection.close())
        self.runner.close()

    def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def fetch() -> list[asyncpg.Record]:
            return list(await self.connection.fetch(statement, *arguments))

        return self.runner.run(fetch())

    def fetch_ids(self, statement: str, *arguments: object) -> list[int]:
        return [row["id"] for row in self.fetch(statement, *arguments)]

    def pick(self, numbers: list[int]) -> list[int]:
        """Return the ids of existing jobs, chosen by arbitrary numbers."""
        ids = sorted(self.model.jobs)
        return [ids[number % len(ids)] for number in numbers]

    @rule(queue=QUEUES, key=KEYS, priority=PRIORITIES, days=DAYS, max_attempts=MAX_ATTEMPTS)
    def add(self, queue: str | None, key: str | None, priority: int, days: int, max_attempts: int) -> None:
        (job_id,) = self.fetch_ids(
            """
            select id from app_jobs.add_job(
                'x', '{}', $1, $2, date_trunc('day', now()) + $3 * interval '1 day', $4, $5
            )
            """,
            key,
            queue,
            days,
            max_attempts,
            priority,
        )
        self.model.add(ModelJob(job_id, queue, key, priority, days, max_attempts))

    @rule(worker=WORKERS, limit=st.integers(1, 4))
    def claim_jobs(self, worker: str, limit: int) -> None:
        claimed = self.fetch_ids("select id from app_jobs.claim_jobs($1, null, '4 hours', $2)", worker, limit)
        assert claimed == self.model.claim(worker, limit)

    @rule(worker=WORKERS)
    def get_job(self, worker: str) -> None:
        claimed = self.fetch_ids("select id from app_jobs.get_job($1) where id is not null", worker)
        assert claimed == self.model.claim(worker, 1)

    @precondition(lambda self: self.model.jobs)
    @rule(worker=WORKERS, numbers=NUMBERS, error=st.sampled_from([None, "boom"]), attempts_ago=st.sampled_from([0, 1]))
    def settle(self, worker: str, numbers: list[int], error: str | None, attempts_ago: int) -> None:
        jobs = [self.model.jobs[job_id] for job_id in self.pick(numbers)]
        expected = {job.id for job in jobs if job.worker == worker and attempts_ago == 0}
        settlements = [(worker, job.id, job.attempts - attempts_ago, error) for job in jobs]
        rows = self.runner.run(settle_jobs(self.connection, *settlements))
        assert sorted(row["id"] for row in rows) == sorted(expected)
        for job_id in expected:
            if error is None:
                self.model.delete(job_id)
            else:
                self.model.unlock_queue(job_id)
                self.model.jobs[job_id].unlock()
                self.model.jobs[job_id].days = 40
        self.fetch(
            "update app_jobs.jobs set run_at = date_trunc('day', now()) + interval '40 days' where id = any ($1)",
            list(expected),
        )

    @rule(worker=WORKERS)
    def release_jobs(self, worker: str) -> None:
        self.fetch("select app_jobs.release_jobs($1)", worker)
        for job in self.model.jobs.values():
            if job.worker == worker:
                job.unlock()
                job.attempts = max(job.attempts - 1, 0)
                self.model.unlock_queue(job.id)

    @precondition(lambda self: self.model.jobs)
    @rule(numbers=NUMBERS, function=st.sampled_from(["complete_jobs", "permanently_fail_jobs", "reschedule_jobs"]))
    def change_as_operator(self, numbers: list[int], function: str) -> None:
        job_ids = self.pick(numbers)
        options = ", run_at := date_trunc('day', now()) - interval '5 days', attempts := 0"
        changed = self.fetch_ids(
            f"select id from app_jobs.{function}($1{options if function == 'reschedule_jobs' else ''})", job_ids
        )
        expected = {job_id for job_id in job_ids if not self.model.jobs[job_id].is_running}
        assert sorted(changed) == sorted(expected)
        for job_id in expected:
            job = self.model.jobs[job_id]
            self.model.unlock_queue(job_id)
            job.unlock()
            if function == "complete_jobs":
                self.model.delete(job_id)
            elif function == "permanently_fail_jobs":
                job.attempts = job.max_attempts
            else:
                job.attempts, job.days = 0, -5

    @rule()
    def expire_locks(self) -> None:
        for table in ("jobs", "job_queues"):
            self.fetch(
                f"update app_jobs.{table} set locked_at = now() - interval '5 hours' where locked_at is not null"
            )
        for job in self.model.jobs.values():
            job.expired = job.worker is not None

    @precondition(lambda self: self.model.jobs)
    @rule(numbers=NUMBERS)
    def delete_rows(self, numbers: list[int]) -> None:
        job_ids = self.pick(numbers)
        self.fetch("delete from app_jobs.jobs where id = any ($1)", job_ids)
        for job_id in set(job_ids):
            self.model.delete(job_id)

    @precondition(lambda self: self.model.jobs)
    @rule(numbers=NUMBERS, queue=QUEUES)
    def update_queue_names(self, numbers: list[int], queue: str | None) -> None:
        job_ids = self.pick(numbers)
        self.fetch("update app_jobs.jobs set queue_name = $2 where id = any ($1)", job_ids, queue)
        for job_id in set(job_ids):
            if self.model.jobs[job_id].queue != queue:
                self.model.unlock_queue(job_id)
                self.model.jobs[job_id].queue = queue

    @invariant()
    def jobs_match_the_model(self) -> None:
        rows = self.fetch("select * from app_jobs.jobs order by id")
        columns = ("id", "queue_name", "key", "attempts", "max_attempts", "locked_by")
        assert [tuple(row[column] for column in columns) for row in rows] == [
            (job.id, job.queue, job.key, job.attempts, job.max_attempts, job.worker)
            for _, job in sorted(self.model.jobs.items())
        ]
        assert all(row["exhausted"] == (row["attempts"] >= row["max_attempts"]) for row in rows)

    @invariant()
    def queues_match_the_model(self) -> None:
        rows = self.fetch("select queue_name, job_count, locked_by from app_jobs.job_queues")
        assert {row["queue_name"]: row["job_count"] for row in rows} == self.model.job_counts()
        workers = {queue: self.model.jobs[job_id].worker for queue, job_id in self.model.queue_locks.items()}
        assert {row["queue_name"]: row["locked_by"] for row in rows if row["locked_by"]} == workers


def test_tables_match_the_model_after_every_operation(database: str) -> None:
    run_state_machine_as_test(
        type("MachineOnDatabase", (Machine,), {"dsn": database}),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,  # the same sequences everywhere, so that a failure in CI can be reproduced
            suppress_health_check=list(HealthCheck),
        ),
    )
