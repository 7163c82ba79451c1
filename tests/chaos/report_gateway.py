"""The gateway in front of the callback servers. A request has one report, several reports or a heartbeat."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from chaos.delivery_log import Delivery, DeliveryLog
from chaos.faults import Fault, FaultInjector, FaultKind
from chaos.function_gateway import DELIVERY_PREFIX
from chaos.http_messages import Message, send_request
from chaos.proxy import CUT_KINDS, ClientWriter, ConnectionCut, Repetitions, cut_request

BATCH_PATH = "/callbacks"


class ReportGateway:
    """Forward reports and heartbeats."""

    def __init__(self, log: DeliveryLog, faults: FaultInjector, ports: Sequence[int]) -> None:
        self._log = log
        self._faults = faults
        self._ports = ports
        self._repetitions = Repetitions()

    async def handle(self, request: Message, client: ClientWriter) -> None:
        """Forward one report, heartbeat or batch of reports to a callback server."""
        deliveries, request = self._remove_delivery_numbers(request)
        kind = "heartbeat" if urlsplit(request.path).path.endswith("/heartbeat") else "report"
        counts = [self._log.count_request(kind, delivery.number) for delivery in deliveries]
        choose = self._faults.for_heartbeat if kind == "heartbeat" else self._faults.for_report
        fault = choose(deliveries[0].number, counts[0])
        if fault.kind is not FaultKind.NONE:
            self._log.counts[f"{kind} fault {fault.kind}"] += 1
            if kind == "heartbeat":
                self._log.add_fault(deliveries[0], f"heartbeat {fault.kind}")
        first = int(fault.route * len(self._ports))
        for port in (*self._ports[first:], *self._ports[:first]):
            with contextlib.suppress(ConnectionRefusedError):
                await self._forward(request, client, deliveries, port, fault)
                return
        raise ConnectionCut

    async def drain(self) -> None:
        """Wait for pending repetitions of reports."""
        await self._repetitions.drain()

    def _remove_delivery_numbers(self, request: Message) -> tuple[list[Delivery], Message]:
        """Return the deliveries of a request, and the request without their numbers. Record failures."""
        if urlsplit(request.path).path.endswith(BATCH_PATH):
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
        if urlsplit(path).path.endswith("/callback") and request.header("x-job-error"):
            self._log.on_failed(delivery)
        return [delivery], replace(request, start_line=request.start_line.replace(request.path, path, 1))

    def _split_path(self, path: str) -> tuple[Delivery, str]:
        prefix, _, rest = path.removeprefix("/").partition("/")
        return self._log.deliveries[int(prefix.removeprefix(DELIVERY_PREFIX)) - 1], f"/{rest}"

    async def _forward(
        self, request: Message, client: ClientWriter, deliveries: Sequence[Delivery], port: int, fault: Fault
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
        if fault.kind is FaultKind.CUT_RESPONSE:
            client.write(response.raw[: int(len(response.raw) * fault.fraction)])
            raise ConnectionCut
        client.write(response.raw)
        if fault.kind is FaultKind.REPEATED:
            self._repetitions.start(self._repeat(request, deliveries, port, fault.delay_seconds))

    async def _repeat(self, request: Message, deliveries: Sequence[Delivery], port: int, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        await self._send(request, deliveries, port, repeated=True)

    async def _send(
        self, request: Message, deliveries: Sequence[Delivery], port: int, *, repeated: bool = False
    ) -> Message:
        sent_at = self._log.now()
        response = await send_request(port, request)
        statuses: list[int] = []  # none for a heartbeat
        path = urlsplit(request.path).path
        if path.endswith("/callback"):
            statuses = [response.status]
        elif path.endswith(BATCH_PATH) and response.status == 200:
            statuses = [reply["status"] for reply in json.loads(response.body)["replies"]]
        for delivery, status in zip(deliveries, statuses, strict=False):
            self._log.on_report_answered(delivery, status=status, sent_at=sent_at, repeated=repeated)
        return response
