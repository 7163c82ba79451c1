"""Parameters of DataJobTrigger and their validation without a table."""

from typing import Any, cast

import pytest

from jobfn.errors import BlueprintError
from jobfn.triggers import DataJobTrigger
from jobfn.triggers.blueprint import parse_node

EVERYTHING = {
    "task_identifier": "email:send",
    "payload_strategy": "custom",
    "payload_custom": {"key": "column"},
    "events": ["UPDATE"],
    "conditions": {"AND": [{"field": "a", "op": "IS NULL"}, {"NOT": {"field": "b", "op": ">", "value": 3}}]},
    "include_old": True,
    "include_meta": True,
    "job_key": "k",
    "queue_name": "q",
    "priority": -1,
    "run_at_delay": "1 minute",
    "max_delay": "1 hour",
    "expires_in": "1 day",
    "max_attempts": 1,
}


def test_parameters_round_trip() -> None:
    node = parse_node(EVERYTHING, "node")
    assert node.parameters() == EVERYTHING | {
        "conditions": [{"AND": [{"field": "a", "op": "IS NULL"}, {"NOT": {"field": "b", "op": ">", "value": "3"}}]}]
    }
    assert parse_node(node.parameters(), "node") == node


def test_null_means_the_default() -> None:
    data = dict.fromkeys(DataJobTrigger.model_fields) | {"task_identifier": "t"}
    assert parse_node(data, "node") == DataJobTrigger(task_identifier="t")


@pytest.mark.parametrize(
    ("events", "expected"), [(["DELETE", "INSERT"], ("INSERT", "DELETE")), (["UPDATE", "UPDATE"], ("UPDATE",))]
)
def test_events_are_sorted_and_unique(events: list[str], expected: tuple[str, ...]) -> None:
    assert parse_node({"task_identifier": "t", "events": events}, "node").events == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("open", "open"), (True, "true"), (False, "false"), (7, "7"), (2.5, "2.5")]
)
def test_condition_value_is_converted_to_text(value: object, expected: str) -> None:
    node = parse_node({"task_identifier": "t", "condition_field": "c", "condition_value": value}, "node")
    assert node.condition_value == expected


def task(**parameters: object) -> dict[str, Any]:
    return {"task_identifier": "t", **parameters}


def comparison(**parts: object) -> dict[str, Any]:
    return task(events=["UPDATE"], conditions=[{"field": "c", "op": "=", **parts}])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "task_identifier is missing"),
        (task(task_identifier=""), "task_identifier: string should have at least 1 character"),
        (task(task_identifier=7), "task_identifier: input should be a valid string, not 7"),
        (task(task_identifier="a\0b"), "task_identifier: PostgreSQL cannot store a NUL character"),
        (task(task_identifier="\ud800"), "task_identifier: input should be a valid string"),
        (task(watch_feilds=["a"]), "unknown parameter watch_feilds (nearest: watch_fields)"),
        (task(zzz=1), "unknown parameter zzz"),
        (task(payload_strategy="rows"), "payload_strategy: input should be 'row_id', 'row', 'fields' or 'custom'"),
        (task(payload_strategy="fields"), "payload_fields is missing"),
        (task(payload_strategy="fields", payload_fields=[]), "payload_fields: "),
        (task(payload_strategy="fields", payload_fields=["a", "b", "a"]), "payload_fields: 'a' occurs twice"),
        (task(payload_strategy="fields", payload_fields=["ä" * 32]), "payload_fields: a name has at most 63 bytes"),
        (task(payload_strategy="custom"), "payload_custom is missing"),
        (task(payload_strategy="custom", payload_custom={"k": 1}), "payload_custom: "),
        (
            task(payload_strategy="custom", payload_custom={"_meta": "a"}, include_meta=True),
            "payload_custom: include_meta adds",
        ),
        (task(payload_strategy="fields", payload_fields=["old"], include_old=True), "payload_fields: include_old adds"),
        (task(events=[]), "events: "),
        (task(events=["INSERT", "TRUNCATE"]), "events: input should be 'INSERT', 'UPDATE' or 'DELETE', not 'TRUNCATE'"),
        (task(watch_fields=["a"], condition_field="b", condition_value="c"), "condition_field and watch_fields"),
        (task(condition_field="a"), "condition_value is missing"),
        (task(condition_value="a"), "condition_field is missing"),
        (
            task(condition_field="a", condition_value="b", conditions={"field": "a", "op": "IS NULL"}),
            "conditions and condition_field",
        ),
        (task(watch_fields=["a"], conditions={"field": "a", "op": "IS NULL"}), "conditions and watch_fields"),
        (task(conditions=[]), "conditions: "),
        (task(conditions={"field": "a"}), "conditions: op is missing"),
        (task(conditions={"field": "a", "op": "~", "value": "b"}), "conditions: op: input should be '='"),
        (
            task(conditions={"AND": [{"field": "a", "op": "IS NULL", "vlue": 1}]}),
            "conditions: unknown parameter vlue (nearest: value)",
        ),
        (comparison(), "conditions: = needs an operand: set value or ref"),
        (comparison(value=None), "conditions: = needs an operand: use IS NULL or IS NOT NULL"),
        (comparison(value=1, ref={"field": "d"}), "conditions: value and ref exclude each other"),
        (comparison(op="IS NULL", value=1), "conditions: IS NULL has no operand"),
        (comparison(op="LIKE", value="50\\"), "conditions: the pattern '50\\\\' ends in an escape character"),
        (
            task(conditions=[{"field": "a", "op": "=", "value": 1, "row": "OLD"}]),
            "conditions: 'a' uses row OLD, which INSERT does not have",
        ),
        (
            task(conditions={"NOT": {"OR": [{"field": "a", "op": "IS DISTINCT FROM"}]}}),
            "conditions: 'a' uses row OLD, which INSERT does not have",
        ),
        (
            task(events=["INSERT"], conditions=[{"field": "a", "op": "=", "ref": {"field": "b", "row": "OLD"}}]),
            "conditions: 'a' uses row OLD",
        ),
        (task(include_old="yes"), "include_old: input should be a valid boolean, not 'yes'"),
        (task(job_key="k" * 513), "job_key: string should have at most 512 characters"),
        (task(queue_name="q" * 127), "queue_name: string should have at most 126 characters"),
        (task(priority="1"), "priority: input should be a valid integer, not '1'"),
        (task(priority=2**31), "priority: input should be less than or equal to 2147483647"),
        (task(max_attempts=0), "max_attempts: input should be greater than or equal to 1, not 0"),
        (task(run_at_delay=""), "run_at_delay: "),
        (task(unique_until="expired"), "unique_until: input should be 'started' or 'done', not 'expired'"),
        (task(unique_for="1 hour", unique_until="done"), "unique_for and unique_until exclude each other"),
        (task(unique_by=["id"]), "unique_by needs unique_for or unique_until"),
        (task(on_conflict="replace"), "on_conflict needs unique_for or unique_until"),
        (
            task(unique_until="done", job_key="k"),
            "job_key excludes unique_for and unique_until: a job with a key replaces the waiting one",
        ),
        (
            task(job_key="k", max_delay="1 hour"),
            "max_delay needs job_key and run_at_delay: it limits how long changes can put the job off",
        ),
        ({"signal": "s"}, "job_key_field is missing: signal needs the column with the key of the job"),
        ({"signal": "s" * 201, "job_key_field": "a"}, "signal: string should have at most 200 characters"),
        (task(job_key_field="a"), "signal is missing: job_key_field names the job that a signal is for"),
        (task(job_key_prefix="a"), "signal is missing: job_key_prefix names the job that a signal is for"),
        (task(signal="s", job_key_field="a"), "signal and task_identifier exclude each other: a signal adds no job"),
        *(
            (
                {"signal": "s", "job_key_field": "a", name: value},
                f"signal and {name} exclude each other: a signal adds no job",
            )
            for name, value in (
                ("entity_field", "a"),
                ("job_key", "k"),
                ("queue_name", "q"),
                ("priority", 1),
                ("run_at_delay", "1 minute"),
                ("max_attempts", 3),
                ("unique_until", "done"),
            )
        ),
    ],
)
def test_invalid_parameter_is_rejected_by_name(data: dict[str, Any], problem: str) -> None:
    with pytest.raises(BlueprintError) as raised:
        parse_node(data, "table public.t, nodes[0]")
    message = str(raised.value)
    assert message.startswith("table public.t, nodes[0]")
    assert f": {problem}" in message
    assert "\n" not in message


def test_deeply_nested_conditions_are_rejected() -> None:
    condition: dict[str, Any] = {"field": "a", "op": "IS NULL"}
    for _ in range(5_000):
        condition = {"NOT": condition}
    with pytest.raises(BlueprintError, match="conditions"):
        parse_node(task(conditions=condition), "node")


@pytest.mark.parametrize(
    ("parameters", "notices"),
    [
        ({"payload_fields": ["a"]}, ["payload_fields has no effect with payload_strategy row_id"]),
        (
            {"payload_custom": {"a": "b"}, "payload_strategy": "row"},
            ["payload_custom has no effect with payload_strategy row"],
        ),
        ({"watch_fields": ["a"], "events": ["DELETE"]}, ["watch_fields has no effect without the event UPDATE"]),
        ({"include_old": True, "events": ["INSERT"]}, ["include_old has no effect without the event UPDATE"]),
        ({"watch_fields": ["a"], "include_old": True}, []),
    ],
)
def test_parameter_without_effect_gives_a_notice(parameters: dict[str, Any], notices: list[str]) -> None:
    assert DataJobTrigger(task_identifier="t", **cast("Any", parameters)).notices() == notices
