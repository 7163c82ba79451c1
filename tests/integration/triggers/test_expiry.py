"""Triggers whose jobs expire."""

from typing import Any

import pytest

from jobfn.errors import BlueprintError
from jobfn.triggers.node import DataJobTrigger
from support.triggers import Shop

ADD = "insert into orders (id, customer_id, total) values (1, gen_random_uuid(), 1), (2, gen_random_uuid(), 2)"


@pytest.mark.parametrize(
    "parameters",
    [{}, {"job_key": "k"}, {"unique_for": "1 hour"}, {"condition_field": "total", "condition_value": "1"}],
    ids=["rows", "key", "unique", "condition"],
)
async def test_jobs_of_a_trigger_expire_and_others_do_not(shop: Shop, parameters: dict[str, Any]) -> None:
    node = DataJobTrigger(task_identifier="notify", events=("INSERT",), expires_in="10 minutes", **parameters)
    await shop.apply("orders", node)
    async with shop.connection.transaction():
        await shop.execute(ADD)
        await shop.execute("select app_jobs.add_job('other')")
    rows = await shop.connection.fetch(
        "select task_identifier, round(extract(epoch from expires_at - now()) / 60)::int as minutes from app_jobs.jobs"
    )
    assert {(row["task_identifier"], row["minutes"]) for row in rows} == {("notify", 10), ("other", None)}


async def test_platform_schema_is_an_error(platform_shop: Shop) -> None:
    with pytest.raises(BlueprintError, match="expires_in: schema app_jobs does not have it: run `jobfn db migrate`"):
        await platform_shop.apply(
            "orders", DataJobTrigger(task_identifier="x", events=("INSERT",), expires_in="1 hour")
        )


async def test_invalid_interval_is_an_error(shop: Shop) -> None:
    with pytest.raises(BlueprintError, match="expires_in: '0' must be between 1 second and 1000 years"):
        await shop.apply("orders", DataJobTrigger(task_identifier="x", events=("INSERT",), expires_in="0"))
