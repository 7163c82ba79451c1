"""The audit list: each action of an operator has one entry, and nothing else has."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.history import History
from jobfn.errors import ConfigurationError
from jobfn.operations import Action, JobFilter, JobState, Operations, open_operations
from jobfn.operations.actor import Actor, Source
from jobfn.operations.audit import ACTIONS
from support.jobs import TENANT, WORKER, Jobs

Entry = tuple[str, str, int | None, dict[str, Any]]


async def entries(jobs: Jobs) -> list[Entry]:
    """Return action, target, number of jobs and details of all entries, oldest first."""
    rows = await jobs.connection.fetch("select action, target, job_count, details from app_jobs.audit_log order by id")
    return [
        (row["action"], row["target"], row["job_count"], json.loads(row["details"]) if row["details"] else {})
        for row in rows
    ]


async def fail(jobs: Jobs, count: int = 1) -> list[int]:
    ids = [await jobs.add("x", {"card": "4111"}, max_attempts=1) for _ in range(count)]
    for job in ids:
        assert await jobs.claim_id() == job
        await jobs.fail(job)
    return ids


SCHEDULE = """select app_jobs.add_scheduled_job('report', '{"card": "4111"}', '{"rule": "0 9 * * *"}', 'daily')"""
ADDED: Entry = (
    "add_schedule",
    "schedule 1 report",
    None,
    {
        "schedule_info": {"rule": "0 9 * * *"},
        "task_identifier": "report",
        "key": "daily",
        "max_attempts": 25,
        "priority": 0,
    },
)
#: Statements of operators on job 1, which is delayed, and the entries that they write.
VERBS: dict[str, list[Entry]] = {
    "select app_jobs.run_jobs_now('{1}')": [("run_now", "job 1", 1, {})],
    "select app_jobs.cancel_jobs('{1}', 'wrong', false)": [("cancel", "job 1", 1, {"reason": "wrong"})],
    "select app_jobs.complete_jobs('{1,2}')": [("remove", "job 1", 1, {})],
    "select app_jobs.permanently_fail_jobs('{1}', 'wrong')": [("fail", "job 1", 1, {"reason": "wrong"})],
    "select app_jobs.reschedule_jobs('{1}', priority := 3)": [("reschedule", "job 1", 1, {"priority": 3})],
    "select app_jobs.set_expiry('{1}', 'infinity')": [("set_expiry", "job 1", 1, {"expires_at": "infinity"})],
    "select app_jobs.remove_job('k')": [("remove", "job 1", 1, {"key": "k"})],
    "select app_jobs.retry_job_from_step(1, 0)": [("retry_from_step", "job 1", 1, {"position": 0})],
    """select app_jobs.signal_by_operator(1, 'paid', '{"card": "4111"}')""": [
        ("signal", "job 1", 1, {"event": "paid"})
    ],
    "select app_jobs.signal_by_operator('k', 'paid')": [("signal", "job 1", 1, {"event": "paid"})],
    "select app_jobs.signal_by_operator('1', 'paid')": [("signal", "job 1", 1, {"event": "paid"})],
    "select app_jobs.force_unlock_workers('{worker-a}')": [("unlock_workers", "workers worker-a", 0, {})],
    # nothing is written where nothing changes
    "select app_jobs.retry_jobs('{1}')": [],
    "select app_jobs.wake_jobs('{1}')": [],
    "select app_jobs.run_jobs_again('{1}')": [],
    "select app_jobs.cancel_jobs('{7}', 'wrong', true)": [],
    "select app_jobs.remove_job('other')": [],
    "select app_jobs.signal_by_operator(7, 'paid')": [],
    "select app_jobs.signal_by_operator('other', 'paid')": [],
    "select app_jobs.pause_limit_key('none', '', 'infinity')": [],
    # settings, by functions and by hand
    "select app_jobs.pause(task := 'x', reason := 'no paper')": [
        ("pause", "task x", None, {"reason": [None, "no paper"]})
    ],
    "select app_jobs.pause(everything := true); select app_jobs.resume(everything := true)": [
        ("pause", "everything", None, {}),
        ("resume", "everything", None, {}),
    ],
    "insert into app_jobs.pauses (kind, name, paused_by) values ('queue', 'q', 'me'); update app_jobs.pauses set"
    " reason = 'r'; delete from app_jobs.pauses": [
        ("pause", "queue q", None, {}),
        ("pause", "queue q", None, {"reason": [None, "r"]}),
        ("resume", "queue q", None, {"reason": ["r", None]}),
    ],
    # what has ended is not resumed
    "insert into app_jobs.pauses (kind, name, paused_by, until) values ('queue', 'q', 'me', '2001-01-01');"
    " delete from app_jobs.pauses": [("pause", "queue q", None, {"until": [None, "2001-01-01T00:00:00+00:00"]})],
    "select app_jobs.set_limit('api', concurrency := 2); select app_jobs.set_limit('api', concurrency := 2); select"
    " app_jobs.set_limit('api', concurrency := 5); select app_jobs.pause_limit_key('api', 'secret', '2100-01-01Z');"
    " select app_jobs.pause_limit_key('api', 'secret', null); select app_jobs.remove_limit('api')": [
        (
            "set_limit",
            "limit api",
            None,
            {"concurrency": [None, 2], "set_by": [None, "operator"], "pauses_on_retry_later": [None, False]},
        ),
        ("set_limit", "limit api", None, {"concurrency": [2, 5]}),
        ("pause_limit_key", "limit api", None, {"until": "2100-01-01T00:00:00+00:00"}),
        ("resume_limit_key", "limit api", None, {}),
        (
            "remove_limit",
            "limit api",
            None,
            {"concurrency": [5, None], "set_by": ["operator", None], "pauses_on_retry_later": [False, None]},
        ),
    ],
    f"select app_jobs.set_tenant_weight('{TENANT}', 3); select app_jobs.set_tenant_weight('{TENANT}', 3); select"
    f" app_jobs.set_tenant_weight('{TENANT}', 1)": [
        ("set_tenant_weight", f"tenant {TENANT}", None, {"weight": [None, 3]}),
        ("set_tenant_weight", f"tenant {TENANT}", None, {"weight": [3, None]}),
    ],
    "insert into app_jobs.task_settings (task_identifier, override_priority) values ('x', 5); update"
    " app_jobs.task_settings set override_priority = null; delete from app_jobs.task_settings": [
        ("set_task", "task x", None, {"override_priority": [None, 5]}),
        ("set_task", "task x", None, {"override_priority": [5, None]}),
    ],
    "insert into app_jobs.task_settings (task_identifier, override_priority) values ('x', 5); delete from"
    " app_jobs.task_settings": [
        ("set_task", "task x", None, {"override_priority": [None, 5]}),
        ("set_task", "task x", None, {"override_priority": [5, None]}),
    ],
    "select app_jobs.set_audit_retention(30); select app_jobs.set_audit_retention(30)": [
        ("set_audit_retention", "audit list", None, {"days": 30})
    ],
    # schedules
    f"{SCHEDULE}; {SCHEDULE}": [ADDED],
    f"""{SCHEDULE}; select app_jobs.add_scheduled_job('report', '{{}}', '{{"rule": "0 9 * * *"}}', 'daily')""": [
        ADDED,
        ("change_schedule", "schedule 1 report", None, {"payload": "changed"}),
    ],
    f"{SCHEDULE}; select app_jobs.pause_schedule('report', 'holidays'); select app_jobs.pause_schedule(1);"
    " select app_jobs.pause_schedule(1, null, '2100-01-01Z');"
    " select app_jobs.run_schedule('daily'); select app_jobs.resume_schedule(1); delete from app_jobs.scheduled_jobs": [
        ADDED,
        ("pause_schedule", "schedule 1 report", None, {"reason": "holidays"}),
        ("pause_schedule", "schedule 1 report", None, {"reason": "holidays", "until": "2100-01-01T00:00:00+00:00"}),
        ("run_schedule", "schedule 1 report", None, {"job": 2}),
        ("resume_schedule", "schedule 1 report", None, {}),
        ("remove_schedule", "schedule 1 report", None, ADDED[3]),
    ],
    f"{SCHEDULE}; update app_jobs.scheduled_jobs set priority = 4": [
        ADDED,
        ("change_schedule", "schedule 1 report", None, {"priority": [0, 4]}),
    ],
}


@pytest.mark.parametrize("statement", VERBS)
async def test_each_verb_has_one_entry(jobs: Jobs, statement: str) -> None:
    await jobs.add("x", {"card": "4111"}, job_key="k")
    await jobs.update("run_at = now() + interval '1 day'")
    for part in statement.split("; "):
        await jobs.connection.execute(part)
    assert await entries(jobs) == VERBS[statement]
    texts = await jobs.connection.fetch("select actor, role, target, details from app_jobs.audit_log")
    assert "4111" not in str(texts)  # without the times, whose digits are any
    [role] = await jobs.connection.fetchrow("select session_user")
    rows = await jobs.connection.fetch("select distinct actor, role, source from app_jobs.audit_log")
    assert [tuple(row) for row in rows] in ([(role, role, "sql")], [])


async def test_failed_and_completed_jobs(jobs: Jobs) -> None:
    [job] = await fail(jobs)
    await jobs.connection.execute("select app_jobs.retry_jobs($1)", [job])
    await jobs.connection.execute("select app_jobs.set_completed_payload_retention(1)")
    assert await jobs.claim_id() == job
    await jobs.complete(job)
    await jobs.connection.execute("select app_jobs.run_jobs_again($1)", [job])
    assert await entries(jobs) == [("retry", f"job {job}", 1, {}), ("run_again", f"job {job}", 1, {})]


async def test_jobs_without_an_operator_have_no_entry(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    """Enqueue, claim, fail, complete, expire and prune jobs, and run a schedule."""
    for _ in range(3):
        await jobs.add("x", max_attempts=1)
    await jobs.complete(await jobs.claim_id() or 0)
    await jobs.fail(await jobs.claim_id() or 0)
    await jobs.connection.execute("select app_jobs.release_jobs($1)", WORKER)
    await jobs.connection.execute(SCHEDULE)
    await jobs.connection.execute("delete from app_jobs.audit_log")
    await jobs.connection.execute(
        "select app_jobs.advance_schedule(1, true, false, now(), now() + interval '1 day', 0, null, null)"
    )
    await jobs.connection.execute("select app_jobs.get_scheduled_job('scheduler-0')")
    await jobs.connection.execute("select app_jobs.release_scheduled_jobs('scheduler-0')")
    await jobs.connection.execute("select app_jobs.pause_schedule(1, null, now() + interval '1 hour')")
    await jobs.connection.execute("delete from app_jobs.audit_log")
    await jobs.connection.execute("select app_jobs.end_schedule_pauses(now() + interval '2 hours')")
    await jobs.update("updated_at = now() - interval '9 days'")
    removed = await jobs.connection.fetchval("select removed from app_jobs.prune_failed_jobs('1 day', 0, 100)")
    assert removed == 1
    assert await entries(jobs) == []


async def test_a_bulk_action_is_one_entry(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    operations = await open_operations(pool, "app_jobs", actor=lambda: Actor("ada", Source.DASHBOARD))
    await jobs.connection.execute("select app_jobs.add_jobs('x', array_fill('{\"card\": \"4111\"}'::json, '{1201}'))")
    other = await jobs.add("y")
    found = JobFilter(task="x", payload=("card", "4111"))
    assert (await operations.apply_to_matching(Action.CANCEL, found, reason="wrong")).done == 1201
    [entry] = (await operations.audit()).entries
    assert (entry.actor, entry.source, entry.action, entry.what) == ("ada", "dashboard", "cancel", "1,201 jobs")
    assert (
        entry.text
        == "filter task x, payload card=…; reason wrong; jobs "
        + ", ".join(str(job) for job in range(702, 722))
        + " and 1,181 more"
    )
    assert len(await entries(jobs)) == 3
    await operations.apply(Action.REMOVE, [other])
    first, second = (await operations.audit()).entries
    assert (first.text, first.what, second.id) == ("", f"job {other}", entry.id)


async def test_list_pages_and_filters(operations: Operations, jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    ada = await open_operations(pool, "app_jobs", actor=lambda: Actor("Ada@laptop", Source.CLI))
    await jobs.connection.execute("select app_jobs.add_jobs('x', array_fill('{}'::json, '{1001}'))")
    await ada.set_tenant_weight(TENANT, 5)
    await ada.apply_to_matching(Action.REMOVE, JobFilter(task="x"))
    await operations.set_tenant_weight(TENANT, 6)
    page = await operations.audit(limit=2)
    assert [(entry.action, entry.job_count) for entry in page.entries] == [
        ("set_tenant_weight", None),
        ("remove", 1001),
    ]
    page = await operations.audit(limit=2, before=page.next)
    assert [entry.text for entry in page.entries] == ["weight 5"]
    assert page.next is None
    assert len((await operations.audit(actor="ADA")).entries) == 2
    assert len((await operations.audit(actor="ada", action="remove")).entries) == 1
    assert len((await operations.audit(since=datetime.now(UTC) - timedelta(hours=1))).entries) == 3
    assert (await operations.audit(since=datetime.now(UTC) + timedelta(hours=1))).entries == ()
    with pytest.raises(ConfigurationError, match="'retri' is not an action of the audit list: choose one of retry"):
        await operations.audit(action="retri")
    with pytest.raises(ConfigurationError, match="the limit is 0: give 1 to 1,000"):
        await operations.audit(limit=0)


async def test_two_operators_at_the_same_time(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    """Each job is in an entry of the one who changed it."""
    ada, bob = [await open_operations(pool, "app_jobs", actor=_actor(name)) for name in ("ada", "bob")]
    await jobs.connection.execute("select app_jobs.add_jobs('x', array_fill('{}'::json, '{2000}'))")
    results = await asyncio.gather(
        *(operator.apply_to_matching(Action.CANCEL, JobFilter(task="x"), reason="r") for operator in (ada, bob))
    )
    counts = await jobs.connection.fetch("select actor, sum(job_count) from app_jobs.audit_log group by actor")
    assert dict(map(tuple, counts)) == {
        name: result.done for name, result in zip(("ada", "bob"), results, strict=True) if result.done
    }
    assert sum(result.done for result in results) == 2000


def _actor(name: str) -> Any:
    return lambda: Actor(name, Source.CLI)


async def test_children_are_part_of_the_entry_of_their_parent(jobs: Jobs) -> None:
    parent, child = await jobs.add("parent"), await jobs.add("child")
    await jobs.connection.execute(
        "insert into app_jobs.job_steps (job_id, position, name, kind, state, attempt, started_at, child_id)"
        " values ($1, 1, 'call', 'call', 'waiting', 1, now(), $2)",
        parent,
        child,
    )
    await jobs.connection.execute("select app_jobs.cancel_jobs($1, 'wrong', false)", [parent])
    assert await jobs.values(child, "ended_as") == ("cancelled",)
    assert await entries(jobs) == [("cancel", f"job {parent}", 1, {"reason": "wrong"})]


async def test_old_entries_are_pruned_in_batches(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    await jobs.connection.execute("select app_jobs.set_tenant_weight(gen_random_uuid(), 2) from generate_series(1, 5)")
    await jobs.connection.execute(
        "update app_jobs.audit_log set at = now() - case when id < 5 then interval '366 days' else '364 days' end"
    )
    history = History(pool, "app_jobs")
    assert [await history.prune(limit=3) for _ in range(3)] == [3, 1, 0]
    assert len(await entries(jobs)) == 1
    await jobs.connection.execute("select app_jobs.set_audit_retention(30)")
    assert await history.prune(limit=3) == 1
    assert [entry[0] for entry in await entries(jobs)] == ["set_audit_retention"]


async def test_long_texts_are_cut(jobs: Jobs) -> None:
    await jobs.connection.execute(
        "select app_jobs.add_scheduled_job('x', '{}', json_build_object('rule', repeat('ä', 100000)))"
    )
    await jobs.connection.execute("select app_jobs.force_unlock_workers(array_fill(repeat('w', 1000), '{100}'))")
    [(_, _, _, details), (_, target, _, _)] = await entries(jobs)
    assert len(details["cut"]) == 4000
    assert len(target) == 300


async def test_platform_schema_has_no_audit_list(platform_operations: Operations) -> None:
    with pytest.raises(ConfigurationError, match="is the platform's own and has no audit list: use jobfn's schema"):
        await platform_operations.audit()


async def test_platform_schema_can_still_be_changed(platform_pool: "asyncpg.Pool[Any]") -> None:
    operations = await open_operations(platform_pool, "app_jobs", actor=_actor("ada"))
    job = await platform_pool.fetchval("select (app_jobs.add_job(gen_random_uuid(), 'x')).id")
    assert (await operations.apply_to_matching(Action.CANCEL, JobFilter(state=JobState.READY))).ids == (job,)


def test_actions_are_listed_once() -> None:
    assert {entry[0] for verb in VERBS.values() for entry in verb} | {"retry", "run_again", "wake"} == set(ACTIONS)


async def test_list_reads_the_newest_entries(operations: Operations, jobs: Jobs) -> None:
    insert = (
        "insert into app_jobs.audit_log (actor, role, source, action, target)"
        " select $1::text, 'r', 'sql', 'pause', '' from generate_series(1, $2::int)"
    )
    await jobs.connection.execute(insert, "old", 1)
    await jobs.connection.execute(insert, "new", 10_000)
    page = await operations.audit(limit=1000)
    for _ in range(9):
        assert page.next is not None
        page = await operations.audit(limit=1000, before=page.next)
    assert len(page.entries) == 1000
    page = await operations.audit(limit=1000, before=page.next)
    assert [entry.actor for entry in page.entries] == ["old"]
