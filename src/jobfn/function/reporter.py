"""Telling the callback server how a delivery ended: one report each, tried until it is heard.

A report is sent again after a connection error or a 5xx, with growing pauses, for ``report_seconds``. Any other
answer ends it: the callback server understood and will not change its mind.
"""

import asyncio

from jobfn import logs
from jobfn.errors import TransportError
from jobfn.transport import Answer, Transport
from jobfn.wire import CALLBACK_URL, JobHeaders, Report, report_target

_TRY_SECONDS = 10.0
_MAX_PAUSE_SECONDS = 5.0


class NotHeard(TransportError):
    """The callback server answered 5xx: it is there, and in trouble."""


class Reporter:
    """Sends reports and remembers those that are still under way.

    Args:
        transport: What carries them.
        report_seconds: How long one report is tried, in seconds.
    """

    def __init__(self, transport: Transport, *, report_seconds: float) -> None:
        self._transport = transport
        self._report_seconds = report_seconds
        self._under_way: set[asyncio.Task[bool]] = set()

    async def report(self, headers: JobHeaders, report: Report, *, wait_seconds: float) -> None:
        """Send a delivery's report, if it can be: without worker, job and callback URL there is none to send.

        Args:
            headers: The delivery's.
            report: What to say.
            wait_seconds: Return after this long even if it has not been heard; it is tried on in the background.
        """
        if headers.callback_url is None or not headers.reportable:
            return
        try:
            target = report_target(headers.callback_url)
        except ValueError as error:
            logs.get_logger("jobfn.report").error("report not sent", job=headers.job_id, reason=str(error))
            return
        sending = asyncio.create_task(self._send(target, headers, report))
        self._under_way.add(sending)
        sending.add_done_callback(self._under_way.discard)
        await asyncio.wait({sending}, timeout=wait_seconds)

    async def drain(self) -> None:
        """Wait until every report under way was heard or given up."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))

    async def _send(self, target: str, headers: JobHeaders, report: Report) -> bool:
        body, sent_headers = report.body(), report.headers(headers.echo)
        answer: Answer | None
        try:
            answer = await self._post(target, body, sent_headers)
        except TransportError:
            answer = await self._post_again(target, body, sent_headers, headers)
        if answer is None:
            return False
        if answer.status >= 400:
            logs.get_logger("jobfn.report").error(
                f"report refused: check {CALLBACK_URL}", job=headers.job_id, url=target, status=answer.status
            )
        return answer.status < 400

    async def _post_again(
        self, target: str, body: bytes, sent_headers: dict[str, str], headers: JobHeaders
    ) -> Answer | None:
        """The slow path, entered after a first failure: retry with backoff until the time is over."""
        import stamina  # noqa: PLC0415  - only who retries pays for it

        log = logs.get_logger("jobfn.report")
        log.warning("report not heard, trying again", job=headers.job_id, url=target)
        try:
            async for attempt in stamina.retry_context(
                on=TransportError,
                attempts=None,
                timeout=self._report_seconds,
                wait_initial=0.1,
                wait_max=_MAX_PAUSE_SECONDS,
            ):
                with attempt:
                    return await self._post(target, body, sent_headers)
        except TransportError as error:
            log.error(
                "report given up: the response, or the job's lease, decides", job=headers.job_id, reason=str(error)
            )
        return None

    async def _post(self, target: str, body: bytes, sent_headers: dict[str, str]) -> Answer:
        answer = await self._transport.post(target, body=body, headers=sent_headers, timeout_seconds=_TRY_SECONDS)
        if answer.status >= 500:
            raise NotHeard(f"POST {target} was answered with {answer.status}")
        return answer
