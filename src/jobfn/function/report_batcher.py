"""Sending reports together that are ready at the same moment (``batches.py``), where a callback server hears that.

While one batch is under way, the next one gathers. Nobody waits for company: a report that is alone goes alone, as it
would to any callback server, and under load the batches grow by themselves.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobfn.http.client import Transport
from jobfn.telemetry import logs
from jobfn.wire import redact_url
from jobfn.wire.report_batch import BatchedReport, decode_statuses, encode_batch

#: So many exchanges with one callback server at a time: while one batch is settled, the next one is on its way.
MAX_IN_FLIGHT_BATCHES = 2
#: A batch holds at most so many reports, and so much text; a callback server reads twice that.
MAX_REPORTS = 200
MAX_CHARACTERS = 500_000

_Waiting = tuple[BatchedReport, str, asyncio.Future["int | None"]]


@dataclass(slots=True)
class _Line:
    """Reports to one callback server."""

    waiting: list[_Waiting] = field(default_factory=list)
    under_way: set[asyncio.Task[None]] = field(default_factory=set)


class ReportBatcher:
    """Sends reports, in batches where several are ready.

    Args:
        transport: What carries them.
        try_seconds: How long one exchange may take, in seconds.
    """

    def __init__(self, transport: Transport, *, try_seconds: float) -> None:
        self._transport = transport
        self._try_seconds = try_seconds
        self._lines: dict[str, _Line] = {}
        self._deaf: set[str] = set()

    async def post(self, url: str, report: BatchedReport) -> int | None:
        """Send one report, together with whatever else is ready for the same place.

        Args:
            url: Where batches are heard.
            report: The report.

        Returns:
            The status that it was answered with; None where batches are not heard after all: send it alone.

        Raises:
            TransportError: No answer came.
        """
        if url in self._deaf:
            return None
        line = self._lines.setdefault(url, _Line())
        answered: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        line.waiting.append((report, report.to_json(), answered))
        if len(line.under_way) < MAX_IN_FLIGHT_BATCHES:
            sending = asyncio.create_task(self._send_all(url, line))
            line.under_way.add(sending)
            sending.add_done_callback(line.under_way.discard)
        return await answered

    async def _send_all(self, url: str, line: _Line) -> None:
        while line.waiting:
            batch = _next_batch(line)
            try:
                statuses: Sequence[int | None] = await self._send(url, batch)
            except Exception as error:  # noqa: BLE001  - each sender gets it and decides
                for _, _, answered in batch:
                    if not answered.done():
                        answered.set_exception(error)
                continue
            for (_, _, answered), status in zip(batch, statuses, strict=True):
                if not answered.done():
                    answered.set_result(status)

    async def _send(self, url: str, batch: Sequence[_Waiting]) -> Sequence[int | None]:
        if len(batch) == 1:
            report = batch[0][0]
            answer = await self._transport.post(
                report.url, body=report.body, headers=report.headers, timeout_seconds=self._try_seconds
            )
            return [answer.status]
        answer = await self._transport.post(
            url,
            body=encode_batch(text for _, text, _ in batch),
            headers={"Content-Type": "application/json"},
            timeout_seconds=self._try_seconds,
        )
        if answer.status >= 500:
            return [answer.status] * len(batch)
        problem = f"it was answered with {answer.status}"
        if answer.status == 200:
            try:
                return decode_statuses(answer.body, count=len(batch))
            except ValueError as error:
                problem = str(error)
        self._deaf.add(url)
        logs.get_logger("jobfn.report").warning(
            "batches of reports are not heard: sending each alone", url=redact_url(url), reason=problem
        )
        return [None] * len(batch)


def _next_batch(line: _Line) -> list[_Waiting]:
    batch: list[_Waiting] = []
    characters = 0
    for waiting in line.waiting[:MAX_REPORTS]:
        characters += len(waiting[1])
        if batch and characters > MAX_CHARACTERS:
            break
        batch.append(waiting)
    del line.waiting[: len(batch)]
    return batch
