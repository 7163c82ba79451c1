"""Caches whose keys others choose forget values at their bounds."""

import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from jobfn.http.loopback import LoopbackGuard
from jobfn.scheduler.decide import parse_cached
from jobfn.wire.urls import report_url


def test_urls_of_reports() -> None:
    for number in range(200):
        report_url(f"http://h{number}/callback")
    assert report_url.cache_info().currsize == 128


def test_rules_of_schedules() -> None:
    for number in range(5000):
        parse_cached(json.dumps({"minute": number % 60, "second": number // 60 % 60, "hour": number // 3600}))
    assert parse_cached.cache_info().currsize == 4096


@pytest.mark.parametrize("count", [100, 300])
async def test_hosts_of_a_developers_machine(count: int) -> None:
    served: list[str] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        served.append("")

    async def unused(*_: object) -> Any:
        raise AssertionError

    guard = LoopbackGuard(app)
    for number in range(count):
        host = f"h{number}.localhost".encode()
        await guard({"type": "http", "headers": [(b"host", host)]}, unused, unused)
    assert len(served) == count
    assert len(guard._known_hosts) == 100  # noqa: SLF001  - a remembered host looks like any other
