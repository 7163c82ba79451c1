"""Names and values that look like SQL, against a real database."""

import json
import uuid
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers, drop_triggers, plan_triggers
from jobfn.triggers.plan import generate_sql

SYMBOLS = (
    "' '' \" \"\" \\ \\' $$ $jobfn$ $jobfn1$ ; -- /* */ % {} := :: E' U&' . , ( ) @schema@ ? $1 %s %I {t} \x1b[31m \x7f"
)
WORDS = "NEW OLD tg_op select null ä 𝄞 \u2028 a"
SPACES = ["\n", "\r", "\t", " "]
STATEMENTS = ["'; drop table jobs; --", '"; drop table jobs; --']
FRAGMENTS = st.sampled_from([*SYMBOLS.split(" "), *WORDS.split(" "), *SPACES, *STATEMENTS])
TEXT = st.lists(FRAGMENTS | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3), max_size=8).map(
    "".join
)
NAMES = TEXT.filter(lambda name: 0 < len(name.encode()) <= 63)
NON_EMPTY_TEXT = TEXT.filter(lambda text: 0 < len(text) <= 126)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("standard_strings", ["on", "off"], ids=["standard strings", "escaping strings"])
@pytest.mark.parametrize("is_plain_table", [True, False], ids=["each statement", "each row"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    schema=NAMES.filter(lambda name: not name.startswith("pg_")),
    table=NAMES,
    columns=st.lists(NAMES, min_size=3, max_size=3, unique=True),
    task=NON_EMPTY_TEXT.filter(lambda text: text not in {".", ".."}),
    value=TEXT,
    key=NON_EMPTY_TEXT,
    queue=NON_EMPTY_TEXT,
    json_key=TEXT,
)
async def test_names_and_values_are_never_executed_as_sql(
    connection: "asyncpg.Connection[Any]",
    standard_strings: str,
    schema: str,
    table: str,
    columns: list[str],
    task: str,
    value: str,
    key: str,
    queue: str,
    json_key: str,
    *,
    is_plain_table: bool,
) -> None:
    name, other, third = columns
    target = f"{quoted(schema)}.{quoted(table)}"
    try:
        await connection.execute(f"set standard_conforming_strings = {standard_strings}")
        if schema not in {"public", "app_jobs", "information_schema"}:
            await connection.execute(f"create schema {quoted(schema)}")
        await connection.execute(
            f"create table {target} ({quoted(name)} text primary key, {quoted(other)} text, {quoted(third)} int)"
        )
        if not is_plain_table:
            await connection.execute(f"create table public.child_{uuid.uuid4().hex} () inherits ({target})")
        node = DataJobTrigger(
            task_identifier=task,
            payload_strategy="custom",
            payload_custom={json_key: other},
            queue_name=queue,
            condition_field=other,
            condition_value=value,
            include_old=json_key != "old",
            include_meta=json_key != "_meta",
        )
        changed = {"field": third, "op": "IS DISTINCT FROM"}
        condition: Any = {"OR": [changed, {"field": other, "op": "=", "value": value}]}
        keyed = DataJobTrigger(
            task_identifier=task, payload_strategy="row", job_key=key, events=("UPDATE",), conditions=condition
        )
        tables = [TableTriggers(table, [node, keyed], schema)]
        await apply_triggers(connection, tables)
        assert not (await plan_triggers(connection, tables)).pending
        nodes, _ = await generate_sql(connection, tables)
        for generated in nodes:
            await connection.execute(generated.script())
        assert not (await plan_triggers(connection, tables)).pending

        await connection.execute(f"insert into {target} values ($1, $2, 1), ('other', 'other' || $2, 2)", name, value)
        await connection.execute(f"update {target} set {quoted(third)} = 3 where {quoted(other)} = $1", value)
        rows = await connection.fetch("select task_identifier, payload, queue_name, key from app_jobs.jobs order by id")
        meta = {"schema": schema, "table": table}
        old = {name: name, other: value, third: 1}
        extra = {} if json_key == "_meta" else {"_meta": {**meta, "event": "INSERT"}}
        updated = ({} if json_key == "old" else {"old": old}) | (
            {} if json_key == "_meta" else {"_meta": {**meta, "event": "UPDATE"}}
        )
        assert sorted(
            [(row["task_identifier"], json.loads(row["payload"]), row["queue_name"], row["key"]) for row in rows],
            key=str,
        ) == sorted(
            [
                (task, {json_key: value} | extra, queue, None),
                (task, {json_key: value} | updated, queue, None),
                (task, {name: name, other: value, third: 3}, None, key),
            ],
            key=str,
        )
        await drop_triggers(connection, [(schema, table)])
    finally:
        await connection.execute("set standard_conforming_strings = on; delete from app_jobs.jobs")
        await connection.execute(f"drop table if exists {target} cascade")
        if schema not in {"public", "app_jobs", "information_schema"}:
            await connection.execute(f"drop schema if exists {quoted(schema)}")
    remaining = await connection.fetchval("select count(*) from pg_proc where proname like 'jobfn\\_%'")
    assert remaining == 0
    assert await connection.fetchval("select to_regclass('app_jobs.jobs') is not null")
