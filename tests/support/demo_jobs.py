"""Demo data for tests and screenshots of the dashboard: jobs in every state and an hour of history.

``python tests/support/demo_jobs.py postgresql://...`` fills a database that ``jobfn db migrate`` has migrated.
"""

import asyncio
import json
import sys
from typing import Any

import asyncpg

from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers

TRIGGERS = [
    TableTriggers(
        "invoices",
        [
            DataJobTrigger(task_identifier="process_invoice", events=("INSERT",)),
            DataJobTrigger(
                task_identifier="send_receipt",
                events=("UPDATE",),
                condition_field="status",
                condition_value="paid",
                job_key="receipt",
            ),
        ],
    ),
    TableTriggers(
        "articles",
        [
            DataJobTrigger(
                task_identifier="index_article",
                payload_strategy="row",
                watch_fields=("title", "body"),
                run_at_delay="30 seconds",
            )
        ],
    ),
]

TABLES = """
    create table invoices (id uuid primary key default gen_random_uuid(), status text, total numeric);
    create table articles (id bigserial primary key, title text, body text);
"""

#: Attempts of the last hour, at a varying rate, with 13 minutes of many failures.
HISTORY = """
    insert into app_jobs.job_runs (job_id, attempt, task_identifier, queue_name, worker,
        enqueued_at, due_at, started_at, ended_at, outcome, error)
    select nextval('app_jobs.jobs_id_seq'), 1, task, case when task = 'sync_stock' then 'warehouse' end,
        'worker-' || (1 + n % 3), ended - took - waited, ended - took - waited, ended - took, ended,
        case when is_bad then 'failed' else 'completed' end,
        case when is_bad then 'ReadTimeout: https://stock.example.com/levels did not answer within 5 s' end
    from (
        select n, minute, task, now() - minute * interval '1 minute' - random() * interval '59 seconds' as ended,
            (0.04 + random() * random() * (case task when 'render_report' then 9 when 'sync_stock' then 3 else 0.8 end)
                + case when minute between 18 and 30 then random() * 2.2 else 0 end) * interval '1 second' as took,
            random() * random() * interval '900 milliseconds' as waited,
            random() < case when minute between 18 and 30 then 0.22 else 0.012 end as is_bad
        from generate_series(0, 59) as minute,
            generate_series(1, 8 + (14 + 9 * sin(minute / 7.0) + random() * 9)::int) as n,
            lateral (select (array['process_invoice', 'send_receipt', 'index_article', 'sync_stock',
                'render_report'])[1 + (random() * 4.3)::int % 5] as task) as named
    ) as made
"""

JOBS = """
    select
        (select count(app_jobs.add_job('process_invoice', json_build_object('id', gen_random_uuid())))
            from generate_series(1, 46)),
        (select count(app_jobs.add_job('send_receipt', json_build_object('invoice', 7000 + n, 'to', 'ada@example.com'),
            job_key := 'receipt-' || n)) from generate_series(1, 23) as n),
        (select count(app_jobs.add_job('sync_stock', json_build_object('warehouse', n), queue_name := 'warehouse'))
            from generate_series(1, 64) as n),
        (select count(app_jobs.add_job('render_report', json_build_object('month', n), queue_name := 'reports'))
            from generate_series(1, 12) as n),
        (select count(app_jobs.add_job('index_article', json_build_object('id', n),
            run_at := now() + n * interval '7 minutes')) from generate_series(1, 85) as n),
        (select count(app_jobs.add_job('email:send_email', json_build_object('to', 'grace@example.com'),
            run_at := now() + n * interval '3 hours', priority := 5)) from generate_series(1, 30) as n)
"""

#: Moves the failed attempts into the past, each some time after the previous one.
SPREAD_FAILURES = """
    with moved as (
        select id, created_at - (4 + 2 * (max(id) over () - id)) * interval '1 minute' as began from app_jobs.jobs
    ), runs as (
        update app_jobs.job_runs r
        set enqueued_at = m.began,
            due_at = m.began + (r.attempt ^ 2 - 1) * interval '9 seconds',
            started_at = m.began + (r.attempt ^ 2 - 1) * interval '9 seconds' + interval '310 milliseconds',
            ended_at = m.began + (r.attempt ^ 2 - 1) * interval '9 seconds' + interval '1870 milliseconds'
        from moved m where m.id = r.job_id
        returning r.job_id, r.ended_at
    )
    update app_jobs.jobs j
    set created_at = m.began, updated_at = m.began + interval '2 seconds'
    from moved m where m.id = j.id
"""

FAILURES = {
    "process_invoice": "KeyError: 'customer'\n  functions.py:41, in charge\n    name = invoice['customer']['name']",
    "send_receipt": "SMTPRecipientsRefused: 550 5.1.1 <ada@exmaple.com>: no such mailbox",
    "sync_stock": "ReadTimeout: https://stock.example.com/levels did not answer within 5 s",
}


async def fill(dsn: str) -> None:
    """Fill a database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("select setseed(0.42)")
        await connection.execute(TABLES)
        await apply_triggers(connection, TRIGGERS)
        await connection.execute(HISTORY)
        await _fail_jobs(connection)
        await connection.execute(SPREAD_FAILURES)
        await connection.execute(JOBS)
        await _claim_jobs(connection)
        await _add_schedules(connection)
    finally:
        await connection.close()


async def _fail_jobs(connection: "asyncpg.Connection[Any]") -> None:
    """Add jobs that failed: some permanently, some with a retry due later."""
    for task, error in FAILURES.items():
        for number in range(6):
            job = await connection.fetchval(
                "select id from app_jobs.add_job($1, $2::text::json, max_attempts := $3)",
                task,
                json.dumps({"id": f"{task}-{number}", "total": 12.5 * number}),
                (1, 3, 25)[number % 3],
            )
            for _ in range((1, 3, 6)[number % 3]):
                await connection.execute("update app_jobs.jobs set run_at = now() where id = $1", job)
                job_id = await connection.fetchval("select (app_jobs.get_job('worker-1')).id")
                if job_id is not None:
                    await connection.execute("select app_jobs.fail_job('worker-1', $1, $2)", job_id, error)


async def _claim_jobs(connection: "asyncpg.Connection[Any]") -> None:
    """Register three workers, one of them not alive, and claim their jobs."""
    for worker, host, in_flight in (("worker-1", "node-a", 5), ("worker-2", "node-b", 4), ("worker-3", "node-c", 0)):
        await connection.execute(
            "select app_jobs.heartbeat_worker("
            "$1, $2, 4711, '0.1.0', array['worker', 'callbacks', 'scheduler'], 16, $3, interval '1 hour')",
            worker,
            host,
            in_flight,
        )
        for _ in range(in_flight):
            await connection.fetchrow("select * from app_jobs.get_job($1)", worker)
    await connection.execute(
        "update app_jobs.workers set last_heartbeat_at = now() - interval '4 hours', "
        "started_at = now() - interval '9 hours' where worker_id = 'worker-3'"
    )
    await connection.execute(
        "update app_jobs.jobs set progress = 0.64, progress_message = 'page 16 of 25' where id = "
        "(select id from app_jobs.jobs where locked_by is not null order by id limit 1)"
    )


async def _add_schedules(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute(
        "select app_jobs.add_scheduled_job('render_report', '0 9 * * 1', '{\"kind\": \"weekly\"}'::json)"
    )
    await connection.execute("select app_jobs.add_scheduled_job('sync_stock', '*/15 * * * *', '{}'::json)")
    await connection.execute(
        "select app_jobs.add_scheduled_job('close_month', '{}'::json, "
        '\'{"rule": "30 2 1 * *", "tz": "Europe/Paris"}\'::json)'
    )


if __name__ == "__main__":
    asyncio.run(fill(sys.argv[1]))
