"""Send reports that are ready at the same time in one request, if the callback server supports batches.

While one batch is in flight, the next one gathers. No report waits to be batched: one that is alone is sent alone, as
to any callback server, and under load the batches grow by themselves. The format is in ``wire/report_batch.py``.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from jobfn.http.client import Transport
from jobfn.telemetry import logs
from jobfn.wire import redact_url
from jobfn.wire.report_batch import MAX_BATCH_REPORTS, BatchedReply, BatchedReport, decode_replies, encode_batch

#: Maximum number of concurrent requests to one callback server: one is settled while the next is sent.
MAX_IN_FLIGHT_BATCHES = 2
#: Maximum size of a batch, unless it is one report. The callback server accepts twice that.
MAX_BATCH_CHARACTERS = 500_000
#: Maximum number of batch URLs to remember: idle ones, and those that do not accept batches.
MAX_URLS = 100


class _QueuedReport(NamedTuple):
    report: BatchedReport
    text: str
    reply: "asyncio.Future[BatchedReply | None]"


@dataclass(slots=True)
class _Lane:
    """The reports to one callback server."""

    queued: list[_QueuedReport] = field(default_factory=list)
    senders: set[asyncio.Task[None]] = field(default_factory=set)


class ReportBatcher:
    """Sends reports, in batches if several are ready."""

    def __init__(self, transport: Transport, *, timeout_seconds: float) -> None:
        self._transport = transport
        self._timeout_seconds = timeout_seconds
        self._lanes: dict[str, _Lane] = {}
        #: Batch URLs of servers without batches, the oldest first.
        self._unsupported: dict[str, None] = {}

    async def post(self, url: str, report: BatchedReport) -> BatchedReply | None:
        """Send one report, with others for the same URL; return its reply, or None if batches are not supported.

        The content of a reply is JSON; that of a report which was alone is the body of the response.
        """
        if url in self._unsupported:
            return None
        lane = self._lanes.get(url) or self._open_lane(url)
        queued = _QueuedReport(report, report.to_json(), asyncio.get_running_loop().create_future())
        lane.queued.append(queued)
        if len(lane.senders) < MAX_IN_FLIGHT_BATCHES:
            lane.senders.add(asyncio.create_task(self._send_queued(url, lane)))
        return await queued.reply

    def _open_lane(self, url: str) -> _Lane:
        if len(self._lanes) >= MAX_URLS:  # callers choose URLs: idle lanes must not stay
            self._lanes = {url: lane for url, lane in self._lanes.items() if lane.senders}
        lane = self._lanes[url] = _Lane()
        return lane

    async def _send_queued(self, url: str, lane: _Lane) -> None:
        try:
            while lane.queued:
                batch = _next_batch(lane)
                try:
                    replies: Sequence[BatchedReply | None] = await self._send(url, batch)
                except Exception as error:  # noqa: BLE001  - passed to each report's sender
                    for queued in batch:
                        if not queued.reply.done():
                            queued.reply.set_exception(error)
                    continue
                for queued, reply in zip(batch, replies, strict=True):
                    if not queued.reply.done():
                        queued.reply.set_result(reply)
        finally:
            # Not in a callback of the task: those that got the replies would post before it, and nothing would send.
            lane.senders.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _send(self, url: str, batch: Sequence[_QueuedReport]) -> Sequence[BatchedReply | None]:
        if len(batch) == 1:
            report = batch[0].report
            response = await self._transport.post(
                report.url, body=report.body, headers=report.headers, timeout_seconds=self._timeout_seconds
            )
            return [BatchedReply(response.status, response.body)]
        response = await self._transport.post(
            url,
            body=encode_batch(queued.text for queued in batch),
            headers={"Content-Type": "application/json"},
            timeout_seconds=self._timeout_seconds,
        )
        if response.status >= 500:
            return [BatchedReply(response.status)] * len(batch)
        reason = f"HTTP status {response.status}"
        if response.status == 200:
            try:
                return decode_replies(response.body, count=len(batch))
            except ValueError as error:
                reason = str(error)
        if len(self._unsupported) >= MAX_URLS:
            del self._unsupported[next(iter(self._unsupported))]
        self._unsupported[url] = None
        logs.get_logger("jobfn.report").warning(
            "report batches unsupported: sending reports one by one", url=redact_url(url), reason=reason
        )
        return [None] * len(batch)


def _next_batch(lane: _Lane) -> list[_QueuedReport]:
    batch: list[_QueuedReport] = []
    characters = 0
    for queued in lane.queued[:MAX_BATCH_REPORTS]:
        characters += len(queued.text)
        if batch and characters > MAX_BATCH_CHARACTERS:
            break
        batch.append(queued)
    del lane.queued[: len(batch)]
    return batch
