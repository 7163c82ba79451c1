"""Defaults of jobs on ``@task``."""

import gc
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from jobfn import TaskDefinitionError, task
from jobfn.task_defaults import NO_DEFAULTS, TaskDefaults, find
from jobfn.unique import Unique


class Order(BaseModel):
    """A payload."""

    id: int
    buyer: str = Field(alias="customer")


class Open(BaseModel):
    """A payload with any fields."""

    model_config = ConfigDict(extra="allow")
    id: int


def test_options_are_the_defaults_of_the_jobs() -> None:
    @task("defaults-a", queue="q", priority=-3, max_attempts=4, unique="until_done", unique_by=["id"])
    def handle(payload: Order) -> None: ...

    assert handle.defaults == TaskDefaults("q", -3, 4, Unique(None, "done", ("id",), "keep"))
    assert find("defaults-a") is handle.defaults


def test_tasks_without_options_have_none() -> None:
    @task("defaults-b")
    def handle(payload: Order) -> None: ...

    assert handle.defaults == NO_DEFAULTS
    assert find("defaults-b") is NO_DEFAULTS


def test_latest_task_counts_and_the_registry_keeps_none_alive() -> None:
    def define(priority: int | None) -> Any:
        @task("defaults-c", priority=priority)
        def handle(payload: Order) -> None: ...

        return handle

    first, second = define(1), define(2)
    assert find("defaults-c").priority == 2
    third = define(None)
    assert find("defaults-c") is NO_DEFAULTS
    fourth = define(4)
    assert find("defaults-c").priority == 4
    del first, second, third, fourth
    gc.collect()
    assert find("defaults-c") is NO_DEFAULTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": ""}, "queue='' must be text of 1 to 126 characters"),
        ({"queue": 5}, "queue=5 must be text of 1 to 126 characters"),
        ({"priority": "high"}, "priority='high' must be a whole number from -2147483648 to 2147483647"),
        ({"unique": timedelta(0)}, "unique=datetime.timedelta(0) must be a timedelta of 1 millisecond to 366 days"),
        ({"unique_by": ["id"]}, "unique_by needs unique: set it to a timedelta, 'until_started' or 'until_done'"),
        (
            {"unique": "until_done", "unique_by": ["id", "buyer"]},
            "unique_by names 'buyer', which the payload does not have: use one of id, customer",
        ),
    ],
)
def test_invalid_options(options: Any, message: str) -> None:
    with pytest.raises(TaskDefinitionError) as raised:

        @task("defaults-d", **options)
        def handle(payload: Order) -> None: ...

    assert str(raised.value).endswith(f": {message}")
    assert str(raised.value).partition(":")[0].endswith("test_task_defaults.py")


def test_payload_without_declared_fields_may_have_any() -> None:
    @task("defaults-e", unique="until_done", unique_by=["anything"])
    def handle(payload: dict[str, int]) -> None: ...

    @task("defaults-f", unique="until_done", unique_by=["anything"])
    def handle_open(payload: Open) -> None: ...

    assert handle.defaults == handle_open.defaults
