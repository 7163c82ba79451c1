"""Reports that are ready at the same moment travel together, where the callback server hears that."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

import pytest
from structlog.testing import capture_logs

from jobfn.errors import TransportError
from jobfn.function.report_batcher import MAX_BATCH_CHARACTERS, MAX_BATCH_REPORTS, MAX_IN_FLIGHT_BATCHES
from jobfn.function.reporter import Reporter
from jobfn.http.client import Response
from jobfn.wire import JobHeaders, Report
from jobfn.wire.report_batch import BatchedReport, decode_batch

BATCH = "http://h/callbacks"

Behave = Callable[[str, bytes], Awaitable[Response]]


class Callbacks:
    """A transport with a callback server behind it: notes what is posted where, and answers as it is told.

    Args:
        behave: What it does; None: it hears everything.
    """

    def __init__(self, behave: Behave | None = None) -> None:
        self.posts: list[tuple[str, bytes]] = []
        self.gate = asyncio.Event()
        self._changed = asyncio.Condition()
        self._behave = behave or self._hear

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        async with self._changed:
            self.posts.append((url, body))
            self._changed.notify_all()
        return await self._behave(url, body)

    async def _hear(self, url: str, body: bytes) -> Response:
        await self.gate.wait()
        return heard(body) if url == BATCH else Response(200, {}, b"")

    async def until_posted(self, count: int) -> None:
        """Wait until so much was posted."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.posts) >= count)

    @property
    def batches(self) -> list[int]:
        """How many reports each batch held."""
        return [len(decode_batch(body)) for url, body in self.posts if url == BATCH]

    async def aclose(self) -> None: ...


def heard(body: bytes, status: int = 200) -> Response:
    """The answer to a batch."""
    return Response(
        200, {}, json.dumps({"replies": [{"status": status, "content": {}} for _ in decode_batch(body)]}).encode()
    )


def headers(job: int, *, batch: str = BATCH) -> JobHeaders:
    url = f"http://h/{job}/callback"
    return JobHeaders(
        job_id=job, worker_id="w", callback_url=url, callback_batch=batch, echo=(("X-Job-Id", str(job)),), attempt=1
    )


async def report_all(reporter: Reporter, jobs: int, report: Report | None = None, *, batch: str = BATCH) -> None:
    await asyncio.gather(
        *(
            reporter.report(headers(job, batch=batch), report or Report("success"), wait_seconds=30)
            for job in range(1, jobs + 1)
        )
    )


async def test_what_is_ready_while_others_are_under_way_goes_together() -> None:
    """The first goes by itself; what gathers behind it goes at once, each with its own URL, headers and body."""
    transport = Callbacks()
    reporter = Reporter(transport, report_timeout_seconds=5)
    first = asyncio.create_task(reporter.report(headers(99), Report("success"), wait_seconds=30))
    await transport.until_posted(1)
    others = asyncio.create_task(report_all(reporter, 20))
    await transport.until_posted(MAX_IN_FLIGHT_BATCHES)
    transport.gate.set()
    await asyncio.gather(first, others)
    assert transport.posts[0] == ("http://h/99/callback", b'{"status": "success"}')
    assert sum(transport.batches) == 20
    assert len(transport.batches) <= MAX_IN_FLIGHT_BATCHES
    report = decode_batch(transport.posts[1][1])[0]
    sent = {"X-Job-Id": "1"}  # what else is sent alone, such as Content-Type, is no job header
    assert report == BatchedReport("http://h/1/callback", sent, b'{"status": "success"}')


async def test_a_batch_has_its_bounds() -> None:
    """So many reports, and so much text; nothing is left behind."""
    transport = Callbacks()
    reporter = Reporter(transport, report_timeout_seconds=5)
    transport.gate.set()
    await report_all(reporter, 3 * MAX_BATCH_REPORTS)
    await report_all(reporter, 150, Report("error", "x" * 10_000))
    assert (
        sum(transport.batches) + len([url for url, _ in transport.posts if url != BATCH]) == 3 * MAX_BATCH_REPORTS + 150
    )
    assert max(transport.batches) == MAX_BATCH_REPORTS
    assert all(len(body) < 1.1 * MAX_BATCH_CHARACTERS for _, body in transport.posts)


@pytest.mark.parametrize(("status", "said"), [(409, "report conflict"), (401, "report refused")])
async def test_each_report_has_its_own_answer(status: int, said: str) -> None:
    """A status in a reply means what it means alone."""

    async def behave(url: str, body: bytes) -> Response:
        await asyncio.sleep(0)
        return heard(body, status) if url == BATCH else Response(status, {}, b"")

    with capture_logs() as lines:
        await report_all(Reporter(Callbacks(behave), report_timeout_seconds=5), 5)
    assert {line["job"] for line in lines if line["event"].startswith(said)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("trouble", ["a status", "a reply", "a cut"])
async def test_reports_of_a_batch_in_trouble_are_tried_again(trouble: str) -> None:
    """5xx of the whole, or of a member, or no answer: each of its reports is told again until it is heard."""
    troubles = 1

    async def behave(url: str, body: bytes) -> Response:
        nonlocal troubles
        await asyncio.sleep(0)
        if url != BATCH:
            return Response(200, {}, b"")
        if not troubles:
            return heard(body)
        troubles -= 1
        if trouble == "a cut":
            raise TransportError("cut")
        return heard(body, 503) if trouble == "a reply" else Response(503, {}, b"")

    transport = Callbacks(behave)
    with capture_logs() as lines:
        await report_all(Reporter(transport, report_timeout_seconds=5), 10)
    again = [line["job"] for line in lines if line["event"] == "report not acknowledged: retrying"]
    assert again
    assert not [line for line in lines if line["log_level"] == "error"]
    told = [read for url, body in transport.posts if url == BATCH for read in decode_batch(body)]
    alone = [url for url, _ in transport.posts if url != BATCH]
    assert len(told) + len(alone) == 10 + len(again)


@pytest.mark.parametrize(
    "answer",
    [
        Response(404, {}, b"what?"),
        Response(200, {}, b"OK"),
        Response(200, {}, b'{"replies": [{"status": 200}]}'),
        Response(200, {}, b'{"replies": 7}'),
    ],
)
async def test_where_batches_are_not_heard_each_goes_alone(answer: Response) -> None:
    """A gateway that does not pass them on, or another server: said once, and from then on not tried again."""

    async def behave(url: str, body: bytes) -> Response:
        await asyncio.sleep(0)
        return answer if url == BATCH else Response(200, {}, b"")

    transport = Callbacks(behave)
    reporter = Reporter(transport, report_timeout_seconds=5)
    with capture_logs() as lines:
        await report_all(reporter, 10)
        tried = len(transport.batches)
        await report_all(reporter, 10)
    assert len(transport.batches) == tried <= MAX_IN_FLIGHT_BATCHES
    assert sorted(url for url, _ in transport.posts if url != BATCH) == sorted(
        f"http://h/{job}/callback" for job in range(1, 11) for _ in range(2)
    )
    assert [line["log_level"] for line in lines] == ["warning"] * tried


async def test_a_batch_goes_nowhere_else_than_its_reports_would() -> None:
    """A batch URL on another host is not used."""
    transport = Callbacks()
    transport.gate.set()
    await report_all(Reporter(transport, report_timeout_seconds=5), 5, batch="http://stranger/callbacks")
    assert {url for url, _ in transport.posts} == {f"http://h/{job}/callback" for job in range(1, 6)}
