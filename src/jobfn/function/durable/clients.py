"""Where a run records its steps: the callback server (``HttpSteps``), or memory in a unit test (``InlineSteps``).

Tasks that run in the worker's process have a client of their own (``in_process.py``).
"""

from collections.abc import Sequence
from typing import Protocol

from jobfn.errors import DurableError, TransportError
from jobfn.function.retries import send_until_answered
from jobfn.wire import STEPS_SEGMENT, JobHeaders, sibling_url
from jobfn.wire.names import CONFLICT_STATUS
from jobfn.wire.steps import MAX_STEPS_BODY_BYTES, StepPage, StepRecord, encode_load, encode_records


class JobNotHeld(Exception):
    """Another worker holds the job, or it has ended."""


class StepsSender(Protocol):
    """Sends requests with steps to callback servers: the ``Reporter``."""

    def timeout_seconds(self, headers: JobHeaders) -> float:
        """Return how long a request of this delivery is sent again."""

    async def send_steps(self, headers: JobHeaders, url: str, body: bytes, *, max_bytes: int) -> tuple[int, object]:
        """Send one request, and return the status and the body of its response, or its JSON."""


class StepsClient(Protocol):
    """Records and loads the steps of one job."""

    async def load(self, after: int) -> StepPage:
        """Return the steps after a position.

        Raises:
            JobNotHeld: This delivery does not hold the job any more.
        """

    async def record(self, records: Sequence[StepRecord]) -> Sequence[StepRecord]:
        """Record steps, and return them as they are recorded.

        Raises:
            JobNotHeld: As above.
            DurableError: A step is invalid.
            TransportError: The callback server is not reachable.
        """


class HttpSteps:
    """Steps at the callback server of a delivery. A request without a response is sent again for a lease's time.

    Args:
        sender: Sends the requests.
        headers: The job headers of the delivery.
    """

    def __init__(self, sender: StepsSender, headers: JobHeaders) -> None:
        self._sender = sender
        self._headers = headers
        self._url = None if headers.heartbeat_url is None else sibling_url(headers.heartbeat_url, STEPS_SEGMENT)

    async def load(self, after: int) -> StepPage:
        """See ``StepsClient.load``."""
        return await self._exchange(encode_load(after), MAX_STEPS_BODY_BYTES)

    async def record(self, records: Sequence[StepRecord]) -> Sequence[StepRecord]:
        """See ``StepsClient.record``."""
        body = encode_records(records)
        # The answer to a wait has the payload of a signal; all others are smaller than the request.
        max_bytes = MAX_STEPS_BODY_BYTES if any(record.kind == "wait" for record in records) else len(body) + 200
        page = await self._exchange(body, max_bytes)
        if len(page.records) != len(records):
            raise TransportError("the callback server did not acknowledge all steps")
        return page.records

    async def _exchange(self, body: bytes, max_bytes: int) -> StepPage:
        if self._url is None:
            raise DurableError("durable calls need a callback server: this worker sent no X-Heartbeat-Url")
        url = self._url

        async def send() -> tuple[int, object]:
            status, content = await self._sender.send_steps(self._headers, url, body, max_bytes=max_bytes)
            if status >= 500:
                raise TransportError(f"the callback server responded to a step with {status}")
            return status, content

        status, content = await send_until_answered(send, timeout_seconds=self._sender.timeout_seconds(self._headers))
        if status == CONFLICT_STATUS:
            raise JobNotHeld
        if status != 200:
            raise DurableError(f"the callback server refused a step with {status}: {_reason(content)}")
        try:
            return StepPage.from_json(content) if isinstance(content, bytes) else StepPage.from_content(content)
        except ValueError as error:
            raise TransportError(f"the callback server's response to a step is malformed: {error}") from None


class InlineSteps:
    """Steps in memory, for a ``JobContext`` that a unit test has built: sleeps end at once."""

    async def load(self, after: int) -> StepPage:  # noqa: ARG002
        """Return nothing: there was no earlier delivery."""
        return StepPage([])

    async def record(self, records: Sequence[StepRecord]) -> Sequence[StepRecord]:
        """See ``StepsClient.record``."""
        for record in records:
            if record.kind in {"wait", "call"}:
                raise DurableError(
                    f"{record.name!r}: this context has no worker. Use the drain_jobs fixture for signals and children"
                )
        return [record._replace(state="completed") if record.kind == "sleep" else record for record in records]


def _reason(content: object) -> str:
    return content[:500].decode("utf-8", "replace") if isinstance(content, bytes) else str(content)[:500]
