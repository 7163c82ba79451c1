"""The generated SQL of one trigger."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobfn.triggers import DataJobTrigger
from jobfn.triggers.ownership import OwnershipTag
from jobfn.triggers.sql import NodeSql, base_name, generate
from jobfn.triggers.table import Column, EnqueueMethod, JobsSchema, PgType, Table

COLUMNS = tuple(Column(name, PgType(kind, catalog_name=kind)) for name, kind in (("id", "int4"), ("a", "text")))
TABLE = Table("public", "t", COLUMNS, primary_key=("id",))
OWN_SCHEMA = JobsSchema("app_jobs")
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=126)


def node_sql(node: DataJobTrigger, table: Table = TABLE, jobs: JobsSchema = OWN_SCHEMA, position: int = 0) -> NodeSql:
    return generate(node, table, jobs, position=position)


def names(sql: NodeSql) -> list[str]:
    return [sql.function.name, *(trigger.name for trigger in sql.triggers)]


@settings(max_examples=30, deadline=None)
@given(TEXT, st.integers(0, 200))
def test_names_are_short_ascii_and_stable(task: str, position: int) -> None:
    node = DataJobTrigger(task_identifier=task, events=("INSERT", "UPDATE", "DELETE"))
    generated = names(node_sql(node, position=position))
    assert all(name.isascii() and len(name) <= 63 for name in generated)
    assert generated == names(node_sql(node, position=position))


def test_names_do_not_collide() -> None:
    keys = [
        (task, Table(schema, name, COLUMNS, ("id",)), position)
        for task in ("t", "T", "t!", "t_", "process_invoice_one", "process_invoice_one_and_two", "ä")
        for schema, name in (("a", "b"), ("a", "c"), ("b", "b"), ("a.b", "b"))
        for position in (0, 1, 11)
    ]
    distinct = {base_name(task, table, position) for task, table, position in keys}
    assert len(distinct) == len(keys)


@pytest.mark.parametrize(
    ("jobs", "table", "each_statement"),
    [
        (OWN_SCHEMA, TABLE, True),
        (OWN_SCHEMA, Table("public", "t", COLUMNS, ("id",), is_plain_table=False), False),
        (JobsSchema("app_jobs", EnqueueMethod.ADD_JOB), TABLE, False),
    ],
)
def test_statement_level_needs_own_schema_and_plain_table(
    jobs: JobsSchema, table: Table, *, each_statement: bool
) -> None:
    sql = node_sql(DataJobTrigger(task_identifier="t", watch_fields=("a",)), table, jobs)
    assert sql.each_statement is each_statement
    assert all(("for each statement" in trigger.create) is each_statement for trigger in sql.triggers)


@pytest.mark.parametrize(
    ("jobs", "first_argument", "absent"),
    [
        (JobsSchema("app_jobs", EnqueueMethod.ADD_JOB), "identifier := 't'", ["db_id"]),
        (JobsSchema("app_jobs", EnqueueMethod.ADD_JOB_WITH_TENANT), "db_id := case when", ["coalesce"]),
        (JobsSchema("app_jobs", EnqueueMethod.ADD_JOB_WITH_TENANT, requires_tenant=True), "db_id := coalesce(", []),
    ],
)
def test_add_job_call_matches_the_schema(jobs: JobsSchema, first_argument: str, absent: list[str]) -> None:
    node = DataJobTrigger(
        task_identifier="t", job_key="k", queue_name="q", run_at_delay="1 h", priority=3, max_attempts=4
    )
    create = node_sql(node, jobs=jobs).function.create
    arguments = [
        '"app_jobs".add_job(',
        first_argument,
        "payload := json_build_object('id', NEW.\"id\")",
        "job_key := 'k'",
        "queue_name := 'q'",
        "run_at := now() + '1 h'::interval",
        "max_attempts := 4",
        "priority := 3",
    ]
    assert all(create.index(before) < create.index(after) for before, after in pairwise(arguments))
    assert not [name for name in absent if name in create]


def test_function_fixes_search_path_and_revokes_execute() -> None:
    create = node_sql(DataJobTrigger(task_identifier="t")).function.create
    assert "security definer\n    set search_path = pg_catalog, pg_temp" in create
    assert create.splitlines()[-1].startswith("revoke all on function ")


@given(TEXT)
def test_ownership_tag_round_trips(task: str) -> None:
    tag = OwnershipTag(task, "0123456789abcdef", event="INSERT", parameters={"task_identifier": task})
    assert OwnershipTag.parse(tag.to_comment()) == tag
    assert OwnershipTag.parse(task) is None


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "",
        "mine",
        "Made by jobfn; `jobfn triggers apply` overwrites changes. {",
        "Made by jobfn; `jobfn triggers apply` overwrites changes. []",
    ],
)
def test_other_comments_have_no_ownership_tag(comment: str | None) -> None:
    assert OwnershipTag.parse(comment) is None
