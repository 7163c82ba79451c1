"""The gateway in front of the functions. A request has one job, or several (contract, section 7)."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from chaos.delivery_log import Delivery, DeliveryLog
from chaos.faults import FUNCTIONS, Fault, FaultInjector, FaultKind
from chaos.http_messages import BodyPart, Message, connect, read_body, read_head, send_request
from chaos.proxy import CUT_KINDS, ClientWriter, ConnectionCut, Repetitions, cut_request

#: Prefix of the path of a callback URL, followed by the sequence number of the delivery.
DELIVERY_PREFIX = "delivery-"
BATCH_CONTENT_TYPE = "application/x-ndjson"
BUSY_STATUSES = {429, 503}
SERVICE_UNAVAILABLE = Message("HTTP/1.1 503 Service Unavailable", (("content-length", "0"),), b"")


class DeliveredJob(NamedTuple):
    """A job of a request: its headers, with names in lower case, and its payload."""

    headers: Mapping[str, str]
    payload: Mapping[str, Any]


class FunctionGateway:
    """Forward deliveries."""

    def __init__(self, log: DeliveryLog, faults: FaultInjector, ports: Sequence[int]) -> None:
        self._log = log
        self._faults = faults
        self._ports = ports
        self._repetitions = Repetitions()
        self._draining: str | None = None

    async def handle(self, request: Message, client: ClientWriter) -> None:
        """Forward one delivery to a function. There is no list of tasks here."""
        if not request.start_line.startswith("POST "):
            client.write(SERVICE_UNAVAILABLE.raw)
            return
        jobs = split_jobs(request)
        worker = request.header("x-worker-id")
        deliveries = [
            self._log.start_delivery(
                number=job.payload["number"],
                job=int(job.headers["x-job-id"]),
                attempt=int(job.headers["x-job-attempt"]),
                worker=worker,
            )
            for job in jobs
        ]
        if is_batch(request):
            self._log.counts["request with several jobs"] += 1
            self._log.counts[f"batched job {worker}"] += len(jobs)
        counts = [self._log.count_request("delivery", delivery.number) for delivery in deliveries]
        fault = self._faults.for_delivery(deliveries[0].number, counts[0])
        if fault.kind is not FaultKind.NONE:
            self._log.counts[f"{'batch' if is_batch(request) else 'single delivery'} fault {fault.kind}"] += 1
        if fault.kind in CUT_KINDS:
            self._add_fault(deliveries, fault.kind)
        if fault.kind is FaultKind.DELAYED:
            await asyncio.sleep(fault.delay_seconds)
        if fault.kind is FaultKind.CONCURRENT:
            self._repetitions.start(self._repeat(request, deliveries, fault, delay_seconds=0.0))
        index = int(fault.route * len(self._ports))
        try:
            try:
                await self._forward(request, client, deliveries, index, fault)
            except ConnectionRefusedError:
                self._log.counts["delivery to a killed function"] += 1
                await self._on_refused(request, client, deliveries, 1 - index, fault)
        finally:
            if fault.kind is FaultKind.REPEATED:
                self._repetitions.start(self._repeat(request, deliveries, fault, delay_seconds=fault.delay_seconds))

    @contextlib.asynccontextmanager
    async def draining(self, process: str) -> AsyncIterator[None]:
        """Send no new request to a process while the block runs, if it is a function."""
        self._draining = process
        try:
            yield
        finally:
            self._draining = None

    async def drain(self) -> None:
        """Wait for pending repetitions of deliveries."""
        await self._repetitions.drain()

    async def _on_refused(
        self,
        request: Message,
        client: ClientWriter,
        deliveries: Sequence[Delivery],
        other: int,
        fault: Fault,
    ) -> None:
        """Try the other function, respond with 503 or close the connection, as gateways do."""
        if fault.fraction < 0.6:
            with contextlib.suppress(ConnectionRefusedError):
                await self._forward(request, client, deliveries, other, fault)
                return
        for delivery in deliveries:
            delivery.rejected = True
        if fault.fraction > 0.8:
            raise ConnectionCut
        client.write(SERVICE_UNAVAILABLE.raw)

    async def _forward(
        self,
        request: Message,
        client: ClientWriter,
        deliveries: Sequence[Delivery],
        index: int,
        fault: Fault,
    ) -> None:
        port = self._choose_function(deliveries, index)
        request = add_delivery_numbers(request, deliveries)
        if fault.kind in CUT_KINDS:
            await cut_request(port, request, fault)
        async with connect(port) as (reader, writer):
            writer.write(request.raw)
            head = await read_head(reader)
            if head is None:
                raise asyncio.IncompleteReadError(b"", None)
            outcomes = OutcomeReader(self._log, deliveries, head)
            if fault.kind is FaultKind.CUT_RESPONSE:
                parts = [BodyPart(head.raw, b""), *[part async for part in read_body(reader, head)]]
                for part in cut_parts(parts, fault.fraction):
                    outcomes.feed(part.content)
                    client.write(part.raw)
                self._add_fault([each for each in deliveries if each.answered_at is None], fault.kind)
                raise ConnectionCut
            client.write(head.raw)
            self._log.counts["streamed response"] += bool(head.header("transfer-encoding"))
            async for part in read_body(reader, head):
                outcomes.feed(part.content)
                client.write(part.raw)
            outcomes.finish()

    async def _repeat(
        self, request: Message, originals: Sequence[Delivery], fault: Fault, *, delay_seconds: float
    ) -> None:
        """Send a request again, and drop the response."""
        await asyncio.sleep(delay_seconds)
        copies = [
            self._log.start_delivery(
                number=each.number, job=each.job, attempt=each.attempt, worker=each.worker, original=each
            )
            for each in originals
        ]
        port = self._choose_function(copies, int(fault.fraction * len(self._ports)))
        await send_request(port, add_delivery_numbers(request, copies))

    def _choose_function(self, deliveries: Sequence[Delivery], index: int) -> int:
        """Record the function of deliveries, the other one if this one stops. Return its port."""
        if FUNCTIONS[index] == self._draining:
            index = 1 - index
        for delivery in deliveries:
            delivery.function = FUNCTIONS[index]
        return self._ports[index]

    def _add_fault(self, deliveries: Sequence[Delivery], fault: FaultKind) -> None:
        for delivery in deliveries:
            self._log.add_fault(delivery, fault)


class OutcomeReader:
    """Records the outcomes in a response while it is sent to the worker.

    Args:
        log: Where to record.
        deliveries: The deliveries of the request.
        head: The response without its body.
    """

    def __init__(self, log: DeliveryLog, deliveries: Sequence[Delivery], head: Message) -> None:
        self._log = log
        self._head = head
        self._has_lines = head.status == 200 and head.header("content-type") == BATCH_CONTENT_TYPE
        self._pending = {str(delivery.job): delivery for delivery in deliveries}
        self._unread = b""

    def feed(self, content: bytes) -> None:
        """Record the complete lines of a response to a batch."""
        if not self._has_lines:
            return
        *lines, self._unread = (self._unread + content).split(b"\n")
        for line in lines:
            outcome = json.loads(line)
            headers = {name.lower(): value for name, value in outcome.get("headers", {}).items()}
            self._record(self._pending.pop(outcome["job"]), outcome.get("status"), headers)

    def finish(self) -> None:
        """Record a response without lines, which is about all jobs."""
        if self._has_lines:
            if self._pending:
                self._log.gateway_errors.append(
                    f"a batch was answered without the outcome of jobs {list(self._pending)}"
                )
            return
        for delivery in self._pending.values():
            self._record(delivery, self._head.status, {"x-job-error": self._head.header("x-job-error")})

    def _record(self, delivery: Delivery, status: int | None, headers: Mapping[str, str]) -> None:
        self._log.on_answered(delivery)
        has_error = bool(headers.get("x-job-error"))
        if status is None or (status in BUSY_STATUSES and not has_error):
            delivery.rejected = True
        elif status >= 400 or has_error:
            self._log.on_failed(delivery)


def is_batch(request: Message) -> bool:
    """Return whether a request has several jobs."""
    return request.header("content-type") == BATCH_CONTENT_TYPE


def split_jobs(request: Message) -> list[DeliveredJob]:
    """Return the jobs of a request."""
    if not is_batch(request):
        headers = {name.lower(): value for name, value in request.headers}
        return [DeliveredJob(headers, json.loads(request.body))]
    lines = [json.loads(line) for line in request.body.rstrip(b"\n").split(b"\n")]
    return [
        DeliveredJob({name.lower(): value for name, value in headers.items()}, payload)
        for headers, payload in zip(lines[::2], lines[1::2], strict=True)
    ]


def add_delivery_numbers(request: Message, deliveries: Sequence[Delivery]) -> Message:
    """Add the number of each delivery to its callback URLs, and to its payload for the handler.

    Every second request gets no batch URL, so that its reports come alone.
    """
    if deliveries[0].number % 2:
        request = request.without_header("x-callback-batch")
    jobs = [_add_delivery_number(job, each, request) for job, each in zip(split_jobs(request), deliveries, strict=True)]
    if is_batch(request):
        lines = [json.dumps(part) for job in jobs for part in job]
        return request.with_body("".join(f"{line}\n" for line in lines).encode())
    (job,) = jobs
    return replace(request, headers=tuple(job.headers.items())).with_body(json.dumps(job.payload).encode())


def _add_delivery_number(job: DeliveredJob, delivery: Delivery, request: Message) -> DeliveredJob:
    headers = dict(job.headers)
    for name in ("x-callback-url", "x-heartbeat-url"):
        if value := headers.get(name) or request.header(name):  # jobs that share a request share its URLs
            url = urlsplit(value)
            headers[name] = urlunsplit(url._replace(path=f"/{DELIVERY_PREFIX}{delivery.sequence}{url.path}"))
    return DeliveredJob(headers, {**job.payload, "delivery": delivery.sequence})


def cut_parts(parts: Sequence[BodyPart], fraction: float) -> list[BodyPart]:
    """Return the first parts of a message. The last one may be cut."""
    length = int(sum(len(part.raw) for part in parts) * fraction)
    cut: list[BodyPart] = []
    for part in parts:
        if length <= 0:
            break
        cut.append(part.cut(length))
        length -= len(part.raw)
    return cut
