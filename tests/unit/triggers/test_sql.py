"""The SQL of one trigger: its names, when it fires, and what it calls."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfn.triggers import DataJobTrigger
from jobfn.triggers.ownership import Mark
from jobfn.triggers.sql import NodeSql, base_name, generate
from jobfn.triggers.table import AddJob, Column, JobsSchema, PgType, Table

COLUMNS = tuple(Column(name, PgType(kind, catalog_name=kind)) for name, kind in (("id", "int4"), ("a", "text")))
TABLE = Table("public", "t", COLUMNS, primary_key=("id",))
OURS = JobsSchema("app_jobs")
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=126)


def sql_of(node: DataJobTrigger, table: Table = TABLE, jobs: JobsSchema = OURS, position: int = 0) -> NodeSql:
    return generate(node, table, jobs, position=position)


def names(sql: NodeSql) -> list[str]:
    return [sql.function.name, *(trigger.name for trigger in sql.triggers)]


@given(TEXT, st.integers(0, 200))
def test_names_fit_whatever_the_task_is_called(task: str, position: int) -> None:
    """At most 63 bytes of plain ASCII, and the same again for the same trigger."""
    node = DataJobTrigger(task_identifier=task, events=("INSERT", "UPDATE", "DELETE"))
    found = names(sql_of(node, position=position))
    assert all(name.isascii() and len(name) <= 63 for name in found)
    assert found == names(sql_of(node, position=position))


def test_names_never_collide() -> None:
    """Another schema, table, task or place among the same task's triggers is another name."""
    keys = [
        (task, Table(schema, name, COLUMNS, ("id",)), position)
        for task in ("t", "T", "t!", "t_", "process_invoice_one", "process_invoice_one_and_two", "ä")
        for schema, name in (("a", "b"), ("a", "c"), ("b", "b"), ("a.b", "b"))
        for position in (0, 1, 11)
    ]
    found = {base_name(task, table, position) for task, table, position in keys}
    assert len(found) == len(keys)


def test_it_is_the_same_text_every_time() -> None:
    """Two runs differ in nothing, or apply would change what is as it should be."""
    node = DataJobTrigger(task_identifier="t", payload_strategy="row", include_old=True, watch_fields=("a",))
    assert sql_of(node) == sql_of(node)


@pytest.mark.parametrize(
    ("jobs", "table", "each_statement"),
    [
        (OURS, TABLE, True),
        (OURS, Table("public", "t", COLUMNS, ("id",), is_plain_table=False), False),
        (JobsSchema("app_jobs", AddJob.IDENTIFIER), TABLE, False),
        (JobsSchema("app_jobs", AddJob.TENANT), TABLE, False),
    ],
)
def test_when_a_trigger_fires_once_a_statement(jobs: JobsSchema, table: Table, *, each_statement: bool) -> None:
    """On jobfn's own schema, on a table whose changes a statement's trigger sees all; else for each row."""
    sql = sql_of(DataJobTrigger(task_identifier="t", watch_fields=("a",)), table, jobs)
    assert sql.each_statement is each_statement
    assert all(("for each statement" in trigger.create) is each_statement for trigger in sql.triggers)


@pytest.mark.parametrize(
    ("jobs", "first", "others"),
    [
        (JobsSchema("app_jobs", AddJob.IDENTIFIER), "identifier := 't'", ["db_id"]),
        (JobsSchema("app_jobs", AddJob.TENANT), "db_id := case when", ["coalesce"]),
        (JobsSchema("app_jobs", AddJob.TENANT, needs_tenant=True), "db_id := coalesce(", []),
    ],
)
def test_add_job_is_called_in_the_form_that_is_there(jobs: JobsSchema, first: str, others: list[str]) -> None:
    """Every argument by its name; the tenant where the schema does not find it out, never null where it must not be."""
    node = DataJobTrigger(
        task_identifier="t", job_key="k", queue_name="q", run_at_delay="1 h", priority=3, max_attempts=4
    )
    create = sql_of(node, jobs=jobs).function.create
    wanted = [
        '"app_jobs".add_job(',
        first,
        "payload := json_build_object('id', NEW.\"id\")",
        "job_key := 'k'",
        "queue_name := 'q'",
        "run_at := now() + '1 h'::interval",
        "max_attempts := 4",
        "priority := 3",
    ]
    assert all(create.index(before) < create.index(after) for before, after in pairwise(wanted))
    assert not [other for other in others if other in create]


def test_the_function_is_safe_to_run_with_its_owner_s_rights() -> None:
    """Fixed search path, not for everybody to put on a table of their own."""
    create = sql_of(DataJobTrigger(task_identifier="t")).function.create
    assert "security definer\n    set search_path = pg_catalog, pg_temp" in create
    assert create.splitlines()[-1].startswith("revoke all on function ")


@given(TEXT)
def test_a_mark_is_read_back(task: str) -> None:
    """From the comment that it makes, whatever the task is called; from no other comment."""
    mark = Mark(task, "0123456789abcdef", event="INSERT", parameters={"task_identifier": task})
    assert Mark.read(mark.comment()) == mark
    assert Mark.read(task) is None


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
def test_other_comments_are_no_marks(comment: str | None) -> None:
    """Nor are marks that somebody broke: what they stand on is left alone."""
    assert Mark.read(comment) is None
