"""Proxies between the parts of a chaos run. They cut, delay and repeat requests and record them in the log.

``FunctionGateway`` is in front of the functions, like a cluster's gateway. ``ReportGateway`` is in front of the
callback servers, like a load balancer.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit, urlunsplit

from chaos.delivery_log import Delivery, DeliveryLog
from chaos.faults import FUNCTIONS, Fault, FaultInjector, FaultKind
from chaos.http_messages import DISCONNECTED, LOOPBACK, Message, connect, read_message, send_request

#: Prefix of the path of a callback URL, followed by the sequence number of the delivery.
DELIVERY_PREFIX = "delivery-"
BATCH_PATH = "/callbacks"
SERVICE_UNAVAILABLE = Message("HTTP/1.1 503 Service Unavailable", (("content-length", "0"),), b"")
CUT_KINDS = {FaultKind.CUT_REQUEST, FaultKind.CUT_BEFORE_RESPONSE}

Handler = Callable[[Message, "ClientConnection"], Coroutine[None, None, None]]


class ConnectionCut(Exception):
    """Ends the connection to the client."""


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """A connection whose client waits for a response."""

    writer: asyncio.StreamWriter

    def respond(self, message: Message, fault: Fault | None = None) -> None:
        """Send a response, or the first part of it if the fault cuts it.

        Raises:
            ConnectionCut: The response is cut.
        """
        if fault is None or fault.kind is not FaultKind.CUT_RESPONSE:
            self.writer.write(message.raw)
            return
        self.writer.write(message.raw[: int(len(message.raw) * fault.fraction)])
        raise ConnectionCut


@contextlib.asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[int]:
    """Serve HTTP/1.1 on a free port, one request at a time on each connection."""
    open_connections: set[asyncio.StreamWriter] = set()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        try:
            while (request := await read_message(reader)) is not None:
                await handler(request, ClientConnection(writer))
        except (ConnectionCut, *DISCONNECTED):
            pass
        finally:
            open_connections.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()

    server = await asyncio.start_server(on_connection, LOOPBACK, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in list(open_connections):
            writer.transport.abort()


async def cut_request(port: int, request: Message, fault: Fault) -> None:
    """Send a part of a request, or all of it without reading the response. Raise ConnectionCut."""
    async with connect(port) as (_, writer):
        if fault.kind is FaultKind.CUT_REQUEST:
            writer.write(request.raw[: int(len(request.raw) * fault.fraction)])
        else:
            writer.write(request.raw)
            await asyncio.sleep(fault.delay_seconds)
        await writer.drain()
    raise ConnectionCut


class FunctionGateway:
    """Forward deliveries."""

    def __init__(self, log: DeliveryLog, faults: FaultInjector, ports: Sequence[int]) -> None:
        self._log = log
        self._faults = faults
        self._ports = ports

    async def handle(self, request: Message, client: ClientConnection) -> None:
        """Forward one delivery to a function."""
        number = int(json.loads(request.body)["number"])
        delivery = self._log.start_delivery(
            number=number,
            job=int(request.header("x-job-id")),
            attempt=int(request.header("x-job-attempt")),
            worker=request.header("x-worker-id"),
        )
        fault = self._faults.for_delivery(number, self._log.count_request("delivery", number))
        index = int(fault.route * len(self._ports))
        if fault.kind is not FaultKind.NONE:
            self._log.add_fault(delivery, fault.kind)
            self._log.counts[f"delivery {fault.kind}"] += 1
        try:
            try:
                await self._forward(request, client, delivery, index, fault)
            except ConnectionRefusedError:
                self._log.counts["delivery to a killed function"] += 1
                await self._on_refused(request, client, delivery, 1 - index, fault)
        except DISCONNECTED:
            self._log.on_function_disconnected(delivery)
            raise

    async def _on_refused(
        self, request: Message, client: ClientConnection, delivery: Delivery, other: int, fault: Fault
    ) -> None:
        """Try the other function, respond with 503 or close the connection, as gateways do."""
        if fault.fraction < 0.6:
            with contextlib.suppress(ConnectionRefusedError):
                await self._forward(request, client, delivery, other, fault)
                return
        delivery.rejected = True
        if fault.fraction > 0.8:
            raise ConnectionCut
        client.respond(SERVICE_UNAVAILABLE)

    async def _forward(
        self, request: Message, client: ClientConnection, delivery: Delivery, index: int, fault: Fault
    ) -> None:
        delivery.function, port = FUNCTIONS[index], self._ports[index]
        request = add_delivery_number(request, delivery)
        if fault.kind in CUT_KINDS:
            await cut_request(port, request, fault)
        response = await send_request(port, request)
        if response.status in {429, 503} and not response.header("x-job-error"):
            delivery.rejected = True
        elif response.status >= 400 or response.header("x-job-error"):
            self._log.on_failed(delivery)
        client.respond(response, fault)


class ReportGateway:
    """Forward reports and heartbeats."""

    def __init__(self, log: DeliveryLog, faults: FaultInjector, ports: Sequence[int]) -> None:
        self._log = log
        self._faults = faults
        self._ports = ports
        self._repetitions: set[asyncio.Task[None]] = set()

    async def handle(self, request: Message, client: ClientConnection) -> None:
        """Forward one report, heartbeat or batch of reports to a callback server."""
        deliveries, request = self._remove_delivery_numbers(request)
        kind = "heartbeat" if request.path.endswith("/heartbeat") else "report"
        counts = [self._log.count_request(kind, delivery.number) for delivery in deliveries]
        choose = self._faults.for_heartbeat if kind == "heartbeat" else self._faults.for_report
        fault = choose(deliveries[0].number, counts[0])
        if fault.kind is not FaultKind.NONE:
            self._log.counts[f"{kind} {fault.kind}"] += 1
            if kind == "heartbeat":
                self._log.add_fault(deliveries[0], f"heartbeat {fault.kind}")
        first = int(fault.route * len(self._ports))
        for port in (self._ports[first], self._ports[1 - first]):
            with contextlib.suppress(ConnectionRefusedError):
                await self._forward(request, client, deliveries, port, fault)
                return
        raise ConnectionCut

    async def drain(self) -> None:
        """Wait for pending repetitions of reports."""
        if self._repetitions:
            await asyncio.wait(set(self._repetitions))

    def _remove_delivery_numbers(self, request: Message) -> tuple[list[Delivery], Message]:
        """Return the deliveries of a request, and the request without their numbers. Record failures."""
        if request.path.endswith(BATCH_PATH):
            batch = json.loads(request.body)
            self._log.counts["batch of reports"] += 1
            deliveries = []
            for report in batch["reports"]:
                url = urlsplit(report["url"])
                delivery, path = self._split_path(url.path)
                report["url"] = urlunsplit(url._replace(path=path))
                if "X-Job-Error" in report["headers"]:
                    self._log.on_failed(delivery)
                deliveries.append(delivery)
            return deliveries, request.with_body(json.dumps(batch).encode())
        delivery, path = self._split_path(request.path)
        if path.endswith("/callback") and request.header("x-job-error"):
            self._log.on_failed(delivery)
        return [delivery], replace(request, start_line=request.start_line.replace(request.path, path, 1))

    def _split_path(self, path: str) -> tuple[Delivery, str]:
        prefix, _, rest = path.removeprefix("/").partition("/")
        return self._log.deliveries[int(prefix.removeprefix(DELIVERY_PREFIX)) - 1], f"/{rest}"

    async def _forward(
        self, request: Message, client: ClientConnection, deliveries: Sequence[Delivery], port: int, fault: Fault
    ) -> None:
        if fault.kind in CUT_KINDS:
            await cut_request(port, request, fault)
        if fault.kind is FaultKind.DELAYED:
            await asyncio.sleep(fault.delay_seconds)
        if fault.kind is FaultKind.CONCURRENT:
            response, _ = await asyncio.gather(
                self._send(request, deliveries, port), self._send(request, deliveries, port, repeated=True)
            )
        else:
            response = await self._send(request, deliveries, port)
        client.respond(response, fault)
        if fault.kind is FaultKind.REPEATED:
            repetition = asyncio.create_task(self._repeat(request, deliveries, port, fault.delay_seconds))
            self._repetitions.add(repetition)
            repetition.add_done_callback(self._repetitions.discard)

    async def _repeat(self, request: Message, deliveries: Sequence[Delivery], port: int, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        with contextlib.suppress(*DISCONNECTED):
            await self._send(request, deliveries, port, repeated=True)

    async def _send(
        self, request: Message, deliveries: Sequence[Delivery], port: int, *, repeated: bool = False
    ) -> Message:
        sent_at = self._log.now()
        response = await send_request(port, request)
        statuses: list[int] = []  # none for a heartbeat
        if request.path.endswith("/callback"):
            statuses = [response.status]
        elif request.path.endswith(BATCH_PATH) and response.status == 200:
            statuses = [reply["status"] for reply in json.loads(response.body)["replies"]]
        for delivery, status in zip(deliveries, statuses, strict=False):
            self._log.on_report_answered(delivery, status=status, sent_at=sent_at, repeated=repeated)
        return response


def add_delivery_number(request: Message, delivery: Delivery) -> Message:
    """Add the delivery's number to the callback URLs, and as a header for the handler.

    Every second job gets no batch URL, so that its reports come alone.
    """
    if delivery.number % 2:
        request = request.without_header("x-callback-batch")
    for name in ("x-callback-url", "x-heartbeat-url"):
        url = urlsplit(request.header(name))
        path = f"/{DELIVERY_PREFIX}{delivery.sequence}{url.path}"
        request = request.with_header(name, urlunsplit(url._replace(path=path)))
    return request.with_header("x-chaos-delivery", str(delivery.sequence))
