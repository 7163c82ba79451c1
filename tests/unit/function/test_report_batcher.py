"""The requests of a ``ReportBatcher``."""

import asyncio
from collections.abc import Mapping

from jobfn.function.report_batcher import ReportBatcher
from jobfn.http.client import HttpTransport, Response
from jobfn.wire.report_batch import BatchedReport


class PairedTransport(HttpTransport):
    """Responds to the requests before an event at the same moment, and to later ones at once."""

    def __init__(self) -> None:
        super().__init__(max_connections=1)
        self.both = asyncio.Event()
        self.bodies: list[bytes] = []

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], timeout_seconds: float | None = None
    ) -> Response:
        self.bodies.append(body)
        await self.both.wait()
        return Response(200, {}, b"{}")


async def test_report_that_follows_the_reply_to_another_one_is_sent() -> None:
    transport = PairedTransport()
    batcher = ReportBatcher(transport, timeout_seconds=5)

    async def post(*bodies: bytes) -> None:
        for body in bodies:
            await batcher.post("http://x/callbacks", BatchedReport("http://x/callback", {}, body))

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(post(b"first", b"next"))
        while not transport.bodies:  # noqa: ASYNC110  - two requests, not a batch
            await asyncio.sleep(0)
        tasks.create_task(post(b"second"))
        while len(transport.bodies) < 2:  # noqa: ASYNC110  - as above
            await asyncio.sleep(0)
        transport.both.set()
    assert transport.bodies == [b"first", b"second", b"next"]
