"""A stranger who calls a function without an invoke secret, and chooses where and for how long it reports."""

import asyncio
import tracemalloc
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from jobfn.function.reporter import Reporter
from jobfn.http.client import Response
from jobfn.testing.buffered_transport import BufferedTransport
from jobfn.wire import JobHeaders, Report

SUCCESS = Report("success")


def job_headers(job: int, origin: str = "http://h", batch_url: str | None = None, lease: str = "30") -> JobHeaders:
    headers = {
        "X-Worker-Id": "w",
        "X-Job-Id": str(job),
        "X-Callback-Url": f"{origin}/callback",
        "X-Lease-Seconds": lease,
    }
    return JobHeaders.parse(headers | ({} if batch_url is None else {"X-Callback-Batch": batch_url}))


class Callbacks(BufferedTransport):
    """A transport to callback servers; each answers with a status, or not before its gate opens."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.urls: list[str] = []
        self.gate = asyncio.Event()

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        self.urls.append(url)
        if url.startswith("http://silent"):
            await self.gate.wait()
        await asyncio.sleep(0)
        return Response(self.status, {}, b"")


async def report(reporter: Reporter, *headers: JobHeaders) -> None:
    await asyncio.gather(*(reporter.report(each, SUCCESS, wait_seconds=30) for each in headers))


async def test_batch_urls_leave_nothing_behind() -> None:
    callbacks = Callbacks(status=404)
    reporter = Reporter(callbacks, report_timeout_seconds=None)

    async def attack(urls: range) -> None:
        for number in urls:
            batch_url = f"http://h/{number}/{'x' * 8000}"
            await report(reporter, *(job_headers(job, batch_url=batch_url) for job in (1, 2, 3, 4)))
            callbacks.urls.clear()

    with capture_logs():
        await attack(range(150))
    tracemalloc.start()
    try:
        with capture_logs():
            await attack(range(150, 1150))
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()


async def test_urls_of_8_kilobytes_are_the_longest() -> None:
    callbacks = Callbacks()
    reporter = Reporter(callbacks, report_timeout_seconds=None)
    with capture_logs() as lines:
        await report(reporter, job_headers(1, f"http://h/{'x' * 8200}"))
        await report(reporter, *(job_headers(job, batch_url=f"http://h/{'x' * 8200}") for job in (2, 3, 4)))
    assert [line["reason"] for line in lines] == ["X-Callback-Url must have at most 8192 characters"]
    assert callbacks.urls == ["http://h/callback"] * 3


@pytest.mark.parametrize(
    ("batch_url", "is_used"), [("https://h/callbacks", True), ("http://h/callbacks", False), ("https://i/x", False)]
)
async def test_batch_is_as_encrypted_as_its_reports(batch_url: str, *, is_used: bool) -> None:
    callbacks = Callbacks(status=404)
    with capture_logs():
        await report(
            Reporter(callbacks, report_timeout_seconds=None),
            *(job_headers(job, "https://h", batch_url=batch_url) for job in range(1, 6)),
        )
    assert (batch_url in callbacks.urls) == is_used


@pytest.mark.parametrize(
    ("lease", "seconds", "retried"),
    [("1e9", 86_400.0, 3600.0), ("1e-300", 0.1, 0.1), ("30", 30.0, 30.0), ("86400", 86_400.0, 3600.0)],
)
def test_lease_is_bounded(lease: str, seconds: float, retried: float) -> None:
    headers = job_headers(1, lease=lease)
    assert headers.lease_seconds == seconds
    assert Reporter(Callbacks(), report_timeout_seconds=None).timeout_seconds(headers) == retried


async def test_silent_callback_server_leaves_places_to_others() -> None:
    callbacks = Callbacks()
    reporter = Reporter(callbacks, report_timeout_seconds=None)
    with capture_logs() as lines:
        for job in range(1, 2502):
            await reporter.report(job_headers(job, "http://silent"), SUCCESS, wait_seconds=0)
        await report(reporter, job_headers(1))
        assert callbacks.urls[-1] == "http://h/callback"
        assert len(callbacks.urls) == 2001
        assert [line["url"] for line in lines] == ["http://silent/callback"] * 501
        callbacks.gate.set()
        await reporter.drain(timeout_seconds=10)
        await report(reporter, job_headers(1, "http://silent"))
    assert len(callbacks.urls) == 2002
