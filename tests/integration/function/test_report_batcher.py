"""Reports that are ready at the same time are sent in one request, if the callback server supports it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

import pytest
from structlog.testing import capture_logs

from jobfn.errors import TransportError
from jobfn.function.report_batcher import MAX_BATCH_CHARACTERS, MAX_IN_FLIGHT_BATCHES
from jobfn.function.reporter import Reporter
from jobfn.http.client import Response
from jobfn.testing.buffered_transport import BufferedTransport
from jobfn.wire import JobHeaders, Report
from jobfn.wire.report_batch import MAX_BATCH_REPORTS, BatchedReport, decode_batch

BATCH_URL = "http://h/callbacks"

Handler = Callable[[str, bytes], Awaitable[Response]]


class RecordingTransport(BufferedTransport):
    """A transport that records requests and answers them with a handler.

    Args:
        handler: Default: acknowledge every report once ``gate`` is set.
    """

    def __init__(self, handler: Handler | None = None) -> None:
        self.posts: list[tuple[str, bytes]] = []
        self.gate = asyncio.Event()
        self._changed = asyncio.Condition()
        self._handler = handler or self._acknowledge

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        async with self._changed:
            self.posts.append((url, body))
            self._changed.notify_all()
        return await self._handler(url, body)

    async def _acknowledge(self, url: str, body: bytes) -> Response:
        await self.gate.wait()
        return batch_response(body) if url == BATCH_URL else Response(200, {}, b"")

    async def wait_for_posts(self, count: int) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.posts) >= count)

    @property
    def batches(self) -> list[list[BatchedReport]]:
        """The reports of each batch."""
        return [list(decode_batch(body)) for url, body in self.posts if url == BATCH_URL]

    @property
    def single_urls(self) -> list[str]:
        """The URLs of the reports that were sent one by one."""
        return [url for url, _ in self.posts if url != BATCH_URL]


def batch_response(body: bytes, status: int = 200) -> Response:
    """Return the response to a batch, with one status for all its reports."""
    replies = [{"status": status, "content": {}} for _ in decode_batch(body)]
    return Response(200, {}, json.dumps({"replies": replies}).encode())


async def report_all(
    reporter: Reporter, count: int, report: Report | None = None, *, batch_url: str = BATCH_URL
) -> None:
    """Report this number of jobs, numbered from 1, at the same time."""
    headers = [
        JobHeaders(
            job_id=job,
            worker_id="w",
            callback_url=f"http://h/{job}/callback",
            callback_batch=batch_url,
            echo=(("X-Job-Id", str(job)),),
            attempt=1,
        )
        for job in range(1, count + 1)
    ]
    await asyncio.gather(*(reporter.report(each, report or Report("success"), wait_seconds=30) for each in headers))


async def test_reports_that_queue_behind_others_are_batched() -> None:
    transport = RecordingTransport()
    reporter = Reporter(transport, report_timeout_seconds=5)
    first = asyncio.create_task(report_all(reporter, 1))
    await transport.wait_for_posts(1)
    others = asyncio.create_task(report_all(reporter, 20))
    await transport.wait_for_posts(MAX_IN_FLIGHT_BATCHES)
    transport.gate.set()
    await asyncio.gather(first, others)
    assert transport.posts[0] == ("http://h/1/callback", b'{"status": "success"}')
    assert sum(map(len, transport.batches)) == 20
    assert len(transport.batches) <= MAX_IN_FLIGHT_BATCHES
    job_headers = {"X-Job-Id": "1"}  # a batch has one Content-Type, not one for each report
    assert transport.batches[0][0] == BatchedReport("http://h/1/callback", job_headers, b'{"status": "success"}')


async def test_batch_is_bounded_in_reports_and_characters() -> None:
    transport = RecordingTransport()
    reporter = Reporter(transport, report_timeout_seconds=5)
    transport.gate.set()
    await report_all(reporter, 3 * MAX_BATCH_REPORTS)
    await report_all(reporter, 150, Report("error", "x" * 10_000))
    sizes = [len(batch) for batch in transport.batches]
    assert sum(sizes) + len(transport.single_urls) == 750
    assert max(sizes) == MAX_BATCH_REPORTS
    assert all(len(body) < 1.1 * MAX_BATCH_CHARACTERS for _, body in transport.posts)


@pytest.mark.parametrize(("status", "event"), [(409, "report conflict"), (401, "report refused")])
async def test_each_report_of_a_batch_has_its_own_status(status: int, event: str) -> None:
    async def handle(url: str, body: bytes) -> Response:
        await asyncio.sleep(0)
        return batch_response(body, status) if url == BATCH_URL else Response(status, {}, b"")

    with capture_logs() as lines:
        await report_all(Reporter(RecordingTransport(handle), report_timeout_seconds=5), 5)
    assert {line["job"] for line in lines if line["event"].startswith(event)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("failure", ["batch status", "report status", "no response"])
async def test_reports_of_a_failed_batch_are_retried(failure: str) -> None:
    failures = 1

    async def handle(url: str, body: bytes) -> Response:
        nonlocal failures
        await asyncio.sleep(0)
        if url != BATCH_URL:
            return Response(200, {}, b"")
        if not failures:
            return batch_response(body)
        failures -= 1
        if failure == "no response":
            raise TransportError("connection closed")
        return batch_response(body, 503) if failure == "report status" else Response(503, {}, b"")

    transport = RecordingTransport(handle)
    with capture_logs() as lines:
        await report_all(Reporter(transport, report_timeout_seconds=5), 10)
    retried = [line["job"] for line in lines if line["event"] == "report not acknowledged: retrying"]
    assert retried
    assert not [line for line in lines if line["log_level"] == "error"]
    assert sum(map(len, transport.batches)) + len(transport.single_urls) == 10 + len(retried)


@pytest.mark.parametrize(
    "response",
    [
        Response(404, {}, b"what?"),
        Response(200, {}, b"OK"),
        Response(200, {}, b'{"replies": [{"status": 200}]}'),
        Response(200, {}, b'{"replies": 7}'),
    ],
)
async def test_reports_are_sent_one_by_one_once_a_batch_is_not_supported(response: Response) -> None:
    async def handle(url: str, body: bytes) -> Response:
        await asyncio.sleep(0)
        return response if url == BATCH_URL else Response(200, {}, b"")

    transport = RecordingTransport(handle)
    reporter = Reporter(transport, report_timeout_seconds=5)
    with capture_logs() as lines:
        await report_all(reporter, 10)
        attempts = len(transport.batches)
        await report_all(reporter, 10)
    assert len(transport.batches) == attempts <= MAX_IN_FLIGHT_BATCHES
    assert sorted(transport.single_urls) == sorted(f"http://h/{job}/callback" for job in range(1, 11) for _ in range(2))
    assert [line["log_level"] for line in lines] == ["warning"] * attempts


async def test_batch_url_of_another_host_is_not_used() -> None:
    transport = RecordingTransport()
    transport.gate.set()
    await report_all(Reporter(transport, report_timeout_seconds=5), 5, batch_url="http://stranger/callbacks")
    assert {url for url, _ in transport.posts} == {f"http://h/{job}/callback" for job in range(1, 6)}
