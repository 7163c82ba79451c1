"""The example blueprints: changes of rows enqueue exactly the expected jobs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from jobfn import FunctionApp, JobContext, Task, create_app, task
from jobfn.errors import BlueprintError
from jobfn.function.loading import load_app
from jobfn.triggers import apply_triggers, drop_triggers, load_blueprints, plan_triggers
from jobfn.triggers.plan import check_triggers
from support.fixtures import Serve, StartService
from support.jobs import TENANT, Jobs
from support.triggers import BLUEPRINTS, Enqueued, Shop

A, B, C = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abc")

ARTICLE = {"id": 7, "title": "On rows", "status": "draft", "views": 0}
DOCUMENT = {
    "id": A,
    "title": "Lease",
    "labels": ["signed", None],
    "content": {"pages": [1, 2.5], "draft": False},
    "created_at": "2030-01-31T09:00:00+00:00",
}
CONTACT = {"id": A, "email": "ada@example.com", "first_name": "Ada", "last_name": None, "last_seen_at": None}


def meta(table: str, event: str) -> dict[str, str]:
    return {"schema": "public", "table": table, "event": event}


@dataclass(frozen=True)
class Example:
    """A blueprint, statements on its table, and the jobs that they enqueue, in order."""

    file: str
    statements: Sequence[str]
    jobs: Sequence[Enqueued]


def invoice(row_id: str, amount: str = "10", **columns: str) -> str:
    names = ", ".join(("id", "amount", *columns))
    values = ", ".join((f"'{row_id}'", amount, *columns.values()))
    return f"insert into invoices ({names}) values ({values})"


def order(row_id: int, total: str = "10") -> str:
    return f"insert into orders (id, customer_id, total) values ({row_id}, '{C}', {total})"


PARAMETERS = [
    Example(
        "task_identifier.yaml",
        [invoice(A), f"update invoices set amount = 11 where id = '{A}'", "delete from invoices"],
        [Enqueued("process_invoice", {"id": A}), Enqueued("process_invoice", {"id": A})],
    ),
    Example(
        "payload_strategy.yaml",
        [
            "insert into articles (id, title) values (7, 'On rows')",
            "update articles set views = 2",
            "delete from articles",
        ],
        [
            Enqueued("index_article", ARTICLE),
            Enqueued("index_article", ARTICLE | {"views": 2}),
            Enqueued("index_article", ARTICLE | {"views": 2}),
        ],
    ),
    Example(
        "payload_fields.json",
        [invoice(A, "19.90", note="'a \"quoted\" note'"), invoice(B, is_rush="true")],
        [
            Enqueued("print_invoice", {"id": A, "amount": 19.9, "is_rush": False, "note": 'a "quoted" note'}),
            Enqueued("print_invoice", {"id": B, "amount": 10, "is_rush": True, "note": None}),
        ],
    ),
    Example("payload_custom.toml", [invoice(A)], [Enqueued("book_invoice", {"invoice_id": A, "total": 10})]),
    Example(
        "events.yaml",
        [invoice(A), invoice(B), "update invoices set amount = 1", f"delete from invoices where id = '{B}'"],
        [Enqueued("forget_invoice", {"id": B})],
    ),
    Example(
        "watch_fields.yaml",
        [
            invoice(A),
            "update invoices set status = 'open'",
            "update invoices set note = 'from null'",
            "update invoices set note = note, amount = amount",
            "update invoices set note = null",
            "update invoices set amount = amount + 1",
        ],
        [Enqueued("process_invoice", {"id": A})] * 4,
    ),
    Example(
        "condition_field.yaml",
        [invoice(A), invoice(B, status="'open'"), f"update invoices set status = 'open' where id = '{A}'"],
        [Enqueued("send_invoice", {"id": B}), Enqueued("send_invoice", {"id": A})],
    ),
    Example(
        "condition_value.json",
        [invoice(A), invoice(B, is_rush="true"), "delete from invoices"],
        [Enqueued("hurry", {"id": B}), Enqueued("hurry", {"id": B})],
    ),
    Example(
        "conditions.yaml",
        [
            order(1, "2000"),
            order(2, "5"),
            "update orders set total = total",
            "update orders set note = 'internal: hold', status = 'held'",
            "update orders set note = 'ask', total = total + 1",
        ],
        [Enqueued("review_order", {"id": 1})],
    ),
    Example(
        "include_old.yaml",
        ["insert into articles (id, title) values (7, 'On rows')", "update articles set views = 2"],
        [
            Enqueued("compare_article", {"new": ARTICLE | {"views": 2}, "old": ARTICLE}),
            Enqueued("note_views", {"views": 2, "old": ARTICLE}),
        ],
    ),
    Example(
        "include_meta.yaml",
        [invoice(A), "update invoices set amount = 11", "delete from invoices"],
        [
            Enqueued("log_change", {"id": A, "_meta": meta("invoices", event)})
            for event in ("INSERT", "UPDATE", "DELETE")
        ],
    ),
    Example(
        "job_key.yaml",
        [
            "insert into page_views (id, path) values (1, '/'), (2, '/')",
            "insert into page_views (id, path) values (3, '/')",
        ],
        [Enqueued("count_views", {"id": 3}, key="count_views")],
    ),
    Example("queue_name.yaml", [order(1)], [Enqueued("post_order", {"id": 1}, queue="ledger")]),
    Example("priority.yaml", [order(1)], [Enqueued("confirm_order", {"id": 1}, priority=-10)]),
    Example(
        "entity_field.yaml",
        [order(1), "update orders set note = 'gift'"],
        [Enqueued("bill_order", {"id": 1}, entity=C)],
    ),
    Example(
        "entity_lookup.yaml",
        [
            f"insert into channels values (1, '{A}'), (2, null)",
            "insert into messages values (1, 1), (2, 2), (3, null)",
            "update messages set channel_id = 1 where id = 3",
        ],
        [
            Enqueued("index_message", {"id": 1}, entity=A),
            Enqueued("index_message", {"id": 2}),
            Enqueued("index_message", {"id": 3}),
            Enqueued("index_message", {"id": 3}, entity=A),
        ],
    ),
    Example("run_at_delay.yaml", [order(1)], [Enqueued("remind", {"id": 1}, delay=timedelta(days=2, minutes=30))]),
    Example("max_attempts.yaml", [order(1)], [Enqueued("charge_order", {"id": 1}, max_attempts=3)]),
]

SYNCED = {"id": A, "amount": 10, "currency": "USD", "status": "draft"}
PATTERNS = [
    Example(
        "email_on_invite.yaml",
        [
            f"insert into invites (id, email) values ('{A}', 'ada@example.com')",
            "update invites set accepted_at = now()",
        ],
        [Enqueued("send_invite_email", {"id": A, "email": "ada@example.com", "role": "member"})],
    ),
    Example(
        "stripe_sync.yaml",
        [invoice(A), "update invoices set stripe_id = 'in_1'", "update invoices set status = 'paid'"],
        [
            Enqueued("sync_to_stripe", SYNCED, queue="stripe", max_attempts=5),
            Enqueued("sync_to_stripe", SYNCED | {"status": "paid"}, queue="stripe", max_attempts=5),
        ],
    ),
    Example(
        "conditional_publish.yaml",
        [
            "insert into articles (id, title, status) values (7, 'On rows', 'published')",
            "update articles set status = 'draft'",
            "update articles set status = 'published'",
        ],
        [Enqueued("publish_article", {"id": 7})],
    ),
    Example(
        "status_transition.json",
        [
            "insert into articles (id, title) values (7, 'On rows')",
            "update articles set status = 'published'",
            "update articles set views = 1",
            "update articles set status = 'withdrawn'",
            "update articles set status = 'published'",
        ],
        [Enqueued("announce_article", {"article_id": 7, "headline": "On rows"})],
    ),
    Example(
        "audit_on_delete.toml",
        [
            "set timezone = 'UTC'",
            f"""
            insert into documents (id, title, labels, content, created_at)
            values ('{A}', 'Lease', '{{signed,null}}', '{json.dumps(DOCUMENT["content"])}', '2030-01-31T09:00Z')
            """,
            "delete from documents",
        ],
        [Enqueued("audit_document", DOCUMENT | {"_meta": meta("documents", "DELETE")})],
    ),
    Example(
        "debounced_batch.yaml",
        [f"insert into page_views (id, path) values ({number}, '/')" for number in range(1, 6)],
        [
            Enqueued(
                "aggregate_views",
                {"id": 5},
                key="aggregate_views",
                queue="analytics",
                priority=10,
                delay=timedelta(minutes=5),
            )
        ],
    ),
    Example(
        "webhook.yaml",
        [order(1, "99.5"), "update orders set note = 'gift'", "update orders set status = 'paid'"],
        [
            Enqueued("dispatch_webhook", {"order_id": 1, "total_amount": 99.5, "customer": C, "event_type": event_type})
            for event_type in ("new", "paid")
        ],
    ),
    Example(
        "several_triggers.json",
        [
            f"insert into contacts (id, email, first_name) values ('{A}', 'ada@example.com', 'Ada')",
            "update contacts set last_name = 'Byron'",
            "delete from contacts",
        ],
        [
            Enqueued("send_welcome", {"id": A}),
            Enqueued("sync_contact", {"id": A}, queue="crm"),
            Enqueued("audit_contact", {"new": CONTACT | {"last_name": "Byron"}, "old": CONTACT}),
            Enqueued("sync_contact", {"id": A}, queue="crm"),
            Enqueued("forget_contact", CONTACT | {"last_name": "Byron"}),
        ],
    ),
]
EXAMPLES = [dataclasses.replace(example, file=f"parameters/{example.file}") for example in PARAMETERS] + [
    dataclasses.replace(example, file=f"patterns/{example.file}") for example in PATTERNS
]
BLUEPRINTS_BY_FILE = {example.file: load_blueprints([BLUEPRINTS / example.file]) for example in EXAMPLES}


@pytest.fixture(scope="module")
def typed_tasks() -> Mapping[str, Task[..., Any]]:
    app = load_app(str(BLUEPRINTS / "functions.py"))
    assert isinstance(app, FunctionApp)
    return app.tasks


def recording_tasks(received: list[tuple[str, Any]]) -> list[Task[..., Any]]:
    def recording_task(identifier: str) -> Task[..., Any]:
        async def record(payload: Any, ctx: JobContext) -> None:
            assert ctx.job_id is not None
            received.append((identifier, payload))

        return task(identifier)(record)

    return [recording_task(identifier) for identifier in {job.task for example in EXAMPLES for job in example.jobs}]


def json_text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def test_every_blueprint_in_the_folder_is_tested() -> None:
    files = {
        str(file.relative_to(BLUEPRINTS))
        for folder in ("parameters", "patterns")
        for file in (BLUEPRINTS / folder).iterdir()
    }
    assert files == {example.file for example in EXAMPLES}


async def test_jobs_of_the_examples_reach_their_handlers(
    shop: Shop, serve: Serve, start_service: StartService, jobs: Jobs, typed_tasks: Mapping[str, Task[..., Any]]
) -> None:
    received: list[tuple[str, Any]] = []
    await start_service(await serve(create_app(tasks=recording_tasks(received))))
    for example in EXAMPLES:
        tables = BLUEPRINTS_BY_FILE[example.file].tables
        async with shop.connection.transaction():
            await apply_triggers(shop.connection, tables)
            await shop.execute(*example.statements)
            assert await shop.jobs() == list(example.jobs), example.file
            # run delayed jobs now
            await shop.execute("update app_jobs.jobs set run_at = now()", 'notify "jobs:insert"')
        await jobs.until_gone()
        expected = [(job.task, job.payload) for job in example.jobs]
        assert sorted(received, key=json_text) == sorted(expected, key=json_text), example.file
        for identifier, payload in received:
            typed_tasks[identifier].decode(json.dumps(payload).encode())  # matches the task's annotation
        received.clear()
        await drop_triggers(shop.connection, None)
        await shop.execute(*(f"truncate {table.label} cascade" for table in tables))


async def test_examples_enqueue_the_same_jobs_on_a_platform_schema(platform_shop: Shop) -> None:
    connection = platform_shop.connection
    accepts_entity = await connection.fetchval(
        "select 'entity_id' = any (proargnames) from pg_proc where pronamespace = 'app_jobs'::regnamespace"
    )
    for example in EXAMPLES:
        tables = BLUEPRINTS_BY_FILE[example.file].tables
        transaction = connection.transaction()
        await transaction.start()
        if any(job.entity for job in example.jobs) and not accepts_entity:
            with pytest.raises(BlueprintError, match="entity_field: add_job of schema app_jobs takes no entity_id"):
                await apply_triggers(connection, tables)
            await transaction.rollback()
            continue
        await apply_triggers(connection, tables)
        await platform_shop.execute(f"set jwt.claims.database_id = '{TENANT}'", *example.statements)
        assert await platform_shop.jobs() == list(example.jobs), example.file
        tenants = await connection.fetch("select distinct database_id::text from app_jobs.jobs")
        assert [row["database_id"] for row in tenants] == [TENANT]
        assert not (await plan_triggers(connection, tables)).pending
        await transaction.rollback()


async def test_examples_pass_check(shop: Shop, typed_tasks: Mapping[str, Task[..., Any]]) -> None:
    schemas = {identifier: task.payload_schema() for identifier, task in typed_tasks.items()}
    for file, blueprint in BLUEPRINTS_BY_FILE.items():
        assert await check_triggers(shop.connection, blueprint.tables, schemas) == ([], ()), file
