"""Random sequences of operations never exceed a limit, and release every held job.

No sweep runs: each release follows from what happened.
"""

import asyncio

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from support.limits import assert_consistent, claim, set_limit

WORKERS = st.sampled_from(["worker-1", "worker-2"])
NAMES = st.sampled_from(["a-task", "b-customer", "c-queue"])
SCOPES = {
    "a-task": {"task_identifier": "x"},
    "b-customer": {"per": "payload.customer"},
    "c-queue": {"queue_name": "q"},
}
ENDS = st.sampled_from(["complete", "fail", "release", "snooze", "cancel", "remove", "expire", "die"])
END_STATEMENTS = {
    "complete": "select app_jobs.complete_job(j.locked_by, j.id)",
    "fail": "select app_jobs.fail_job(j.locked_by, j.id, 'boom')",
    "release": "select app_jobs.settle_jobs(array[j.locked_by], array[j.id], array[j.attempts], '{released}', "
    "'{null}', '{null}')",
    "snooze": "select app_jobs.snooze_jobs(array[j.locked_by], array[j.id], array[j.attempts], '{busy}', '{1 hour}', "
    "'{1 day}')",
    "cancel": "select app_jobs.cancel_jobs(array[j.id], 'by a test', true)",
    "remove": "delete from app_jobs.jobs x using one j where x.id = j.id",
    "expire": "update app_jobs.jobs x set locked_at = x.locked_at - interval '5 hours' from one j where x.id = j.id",
    "die": "select app_jobs.reclaim_jobs(j.locked_by)",
}


class Machine(RuleBasedStateMachine):
    """Runs operations on the database ``dsn``."""

    dsn: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.connection: asyncpg.Connection = self.runner.run(asyncpg.connect(self.dsn))
        self.execute("truncate app_jobs.jobs")
        self.execute("select app_jobs.remove_limit(name) from app_jobs.limits")
        for name in SCOPES:
            self.set_limit(name, 1)

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.runner.run(self.connection.close())
            self.runner.close()

    def execute(self, statement: str, *arguments: object) -> None:
        self.runner.run(self.connection.execute(statement, *arguments))

    @rule(
        task=st.sampled_from(["x", "y"]),
        customer=st.sampled_from([1, 2, None]),
        queue=st.sampled_from([None, "q"]),
        key=st.sampled_from([None, None, "k"]),
        priority=st.integers(-1, 1),
        count=st.integers(1, 4),
    )
    def add(
        self, task: str, customer: int | None, queue: str | None, key: str | None, priority: int, count: int
    ) -> None:
        self.execute(
            "select app_jobs.add_job($1, json_build_object('customer', $2::int), $4, $3, priority := $5) "
            "from generate_series(1, $6)",
            *(task, customer, queue, key, priority, count),
        )

    @rule(worker=WORKERS, count=st.integers(1, 4))
    def claim(self, worker: str, count: int) -> None:
        self.runner.run(claim(self.connection, count, worker=worker))

    @rule(end=ENDS, position=st.integers(0, 5))
    def end(self, end: str, position: int) -> None:
        statement = END_STATEMENTS[end]
        one = "with one as (select * from app_jobs.jobs where locked_at is not null order by id offset $1 limit 1) "
        self.execute(
            one + statement + ("" if " using " in statement or "update" in statement else " from one j"), position
        )

    @rule(act=st.sampled_from(["run_jobs_now", "complete_jobs", "retry_jobs"]), position=st.integers(0, 5))
    def act(self, act: str, position: int) -> None:
        self.execute(
            f"select app_jobs.{act}(array(select id from app_jobs.jobs where locked_at is null order by id offset $1 "
            "limit 2))",
            position,
        )

    @rule(name=NAMES, concurrency=st.integers(1, 3))
    def set_limit(self, name: str, concurrency: int) -> None:
        running = self.running(name)
        if concurrency >= running:  # a lower limit holds once jobs have ended
            self.runner.run(set_limit(self.connection, name, concurrency=concurrency, **SCOPES[name]))

    @rule(name=NAMES)
    def remove_limit(self, name: str) -> None:
        self.execute("select app_jobs.remove_limit($1)", name)

    @invariant()
    def consistent(self) -> None:
        self.runner.run(assert_consistent(self.connection))

    def running(self, name: str) -> int:
        """Return the largest number of running jobs of a key of a limit, also if it does not exist."""
        conditions = {"a-task": "task_identifier = 'x'", "b-customer": "true", "c-queue": "queue_name = 'q'"}
        key = "payload ->> 'customer'" if name == "b-customer" else "''"
        count: int = self.runner.run(
            self.connection.fetchval(
                f"select coalesce(max(n), 0) from (select count(*) as n from app_jobs.jobs "
                f"where locked_at is not null and {conditions[name]} group by coalesce({key}, '')) counted"
            )
        )
        return count

    def drain(self) -> None:
        """Run all jobs to their end."""
        self.execute("update app_jobs.jobs set run_at = now() where isfinite(run_at)")
        due = "select count(*) from app_jobs.jobs where not exhausted or locked_at is not null"
        for _ in range(1000):
            self.execute("select app_jobs.complete_job(locked_by, id) from app_jobs.jobs where locked_at is not null")
            if self.runner.run(self.connection.fetchval(due)) == 0:
                return
            # two claims: the second one finds what the first one has released
            claimed = [self.runner.run(claim(self.connection, 10)) for _ in range(2)]
            self.consistent()
            assert any(claimed), "held jobs are not released"


def test_limits_hold_and_release_in_every_sequence(database: str) -> None:
    Machine.dsn = database
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
