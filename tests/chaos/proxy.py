"""The way between the parts of a chaos run: two proxies that cut, delay and repeat what they carry.

``FunctionGateway`` stands before the functions, as a cluster's gateway does; ``ReportGateway`` before the callback
servers, as one service before several of them. What they see and do goes into the ledger.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit, urlunsplit

from chaos.exchange import BROKEN, LOOPBACK, Message, ask, connected, read_message
from chaos.faults import FUNCTIONS, Fault, Faults, Hurt
from chaos.ledger import Delivery, Ledger

#: What marks, in a callback URL's path, which delivery it was handed out with.
MARK = "delivery-"
BATCH_PATH = "/callbacks"
BUSY = Message("HTTP/1.1 503 Service Unavailable", (("content-length", "0"),), b"")

Handle = Callable[[Message, "Client"], Coroutine[None, None, None]]


class CutOff(Exception):
    """The connection to the client ends here."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asked, and waits for the answer."""

    writer: asyncio.StreamWriter

    def answer(self, message: Message, *, share: float | None = None) -> None:
        """Answer; with a share, only that much of it, and then the connection ends.

        Raises:
            CutOff: With a share.
        """
        raw = message.raw
        self.writer.write(raw if share is None else raw[: int(len(raw) * share)])
        if share is not None:
            raise CutOff


@contextlib.asynccontextmanager
async def listening(handle: Handle) -> AsyncIterator[int]:
    """Serve HTTP/1.1 on a port of one's own, one exchange after another on each connection."""
    open_connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        try:
            while (request := await read_message(reader)) is not None:
                await handle(request, Client(writer))
        except (CutOff, *BROKEN):
            pass
        finally:
            open_connections.discard(writer)
            await _close(writer)

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in list(open_connections):
            writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    """End it when what was written is sent."""
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def send_part(port: int, request: Message, hurt: Hurt) -> None:
    """Cut a request, or cut the connection while it is worked on. Always ends with the client cut off, too."""
    raw = request.raw
    async with connected(port) as (_, writer):
        if hurt.fault is Fault.CUT_REQUEST:
            writer.write(raw[: int(len(raw) * hurt.share)])
        else:
            writer.write(raw)
            await asyncio.sleep(hurt.seconds)
        await writer.drain()
    raise CutOff


class FunctionGateway:
    """Carries deliveries.

    Args:
        ledger: Where they are noted.
        faults: What happens to them.
        ports: Of the functions.
    """

    def __init__(self, ledger: Ledger, faults: Faults, ports: Sequence[int]) -> None:
        self._ledger = ledger
        self._faults = faults
        self._ports = ports

    async def carry(self, request: Message, client: Client) -> None:
        """One delivery, to either function."""
        number = int(json.loads(request.body)["number"])
        delivery = self._ledger.begin(
            number=number,
            job=int(request.header("x-job-id")),
            attempt=int(request.header("x-job-attempt")),
            worker=request.header("x-worker-id"),
        )
        hurt = self._faults.of_delivery(number, self._ledger.count("delivery", number))
        which = int(hurt.route * len(self._ports))
        delivery.function = FUNCTIONS[which]
        if hurt.fault is not Fault.NONE:
            self._ledger.hurt(delivery, hurt.fault)
            self._ledger.counts[f"delivery {hurt.fault}"] += 1
        try:
            await self._to_either(request, client, delivery, self._ports[which], hurt)
        except BROKEN:
            self._ledger.abandon(delivery)
            raise

    async def _to_either(self, request: Message, client: Client, delivery: Delivery, port: int, hurt: Hurt) -> None:
        try:
            await self._pass(marked(request, delivery), client, delivery, port, hurt)
        except ConnectionRefusedError:
            self._ledger.counts["delivery to a dead function"] += 1
            await self._turn_away(request, client, delivery, hurt)

    async def _turn_away(self, request: Message, client: Client, delivery: Delivery, hurt: Hurt) -> None:
        """Its function is dead: try the other one, say that all are busy, or end the connection, as gateways do."""
        if hurt.share < 0.6:
            delivery.function = FUNCTIONS[1 - FUNCTIONS.index(str(delivery.function))]
            with contextlib.suppress(ConnectionRefusedError):
                port = self._ports[FUNCTIONS.index(delivery.function)]
                await self._pass(marked(request, delivery), client, delivery, port, hurt)
                return
        delivery.refused = True
        if hurt.share > 0.8:
            raise CutOff
        client.answer(BUSY)

    async def _pass(self, request: Message, client: Client, delivery: Delivery, port: int, hurt: Hurt) -> None:
        if hurt.fault in {Fault.CUT_REQUEST, Fault.CUT_RUNNING}:
            await send_part(port, request, hurt)
        answer = await ask(port, request)
        if answer.status in {429, 503} and not answer.header("x-job-error"):
            delivery.refused = True
        elif answer.status >= 400 or answer.header("x-job-error"):
            self._ledger.failed(delivery)
        client.answer(answer, share=hurt.share if hurt.fault is Fault.CUT_RESPONSE else None)


class ReportGateway:
    """Carries reports and signs of life.

    Args:
        ledger: Where they are noted.
        faults: What happens to them.
        ports: Of the callback servers.
    """

    def __init__(self, ledger: Ledger, faults: Faults, ports: Sequence[int]) -> None:
        self._ledger = ledger
        self._faults = faults
        self._ports = ports
        self._copies: set[asyncio.Task[None]] = set()

    async def carry(self, request: Message, client: Client) -> None:
        """One report or sign of life, or a batch of reports, to either callback server."""
        deliveries, request = self._unmarked(request)
        kind = "heartbeat" if request.path.endswith("/heartbeat") else "report"
        nth = [self._ledger.count(kind, delivery.number) for delivery in deliveries]
        decide = self._faults.of_heartbeat if kind == "heartbeat" else self._faults.of_report
        hurt = decide(deliveries[0].number, nth[0])
        if hurt.fault is not Fault.NONE:
            self._ledger.counts[f"{kind} {hurt.fault}"] += 1
            if kind == "heartbeat":
                self._ledger.hurt(deliveries[0], f"heartbeat {hurt.fault}")
        # a refused connection goes to the other server, as a service's would
        first = int(hurt.route * len(self._ports))
        for port in (self._ports[first], self._ports[1 - first]):
            with contextlib.suppress(ConnectionRefusedError):
                await self._pass(request, client, deliveries, port, hurt)
                return
        raise CutOff

    async def drain(self) -> None:
        """Wait for the reports that are still to be repeated."""
        if self._copies:
            await asyncio.wait(set(self._copies))

    def _unmarked(self, request: Message) -> tuple[list[Delivery], Message]:
        """What it is about, and the request as it would have come without the proxy. Notes who failed."""
        if request.path.endswith(BATCH_PATH):
            batch = json.loads(request.body)
            self._ledger.counts["batch of reports"] += 1
            found = []
            for report in batch["reports"]:
                delivery, path = self._of(urlsplit(report["url"]).path)
                report["url"] = urlunsplit(urlsplit(report["url"])._replace(path=path))
                if "X-Job-Error" in report["headers"]:
                    self._ledger.failed(delivery)
                found.append(delivery)
            return found, request.with_body(json.dumps(batch).encode())
        delivery, path = self._of(request.path)
        if path.endswith("/callback") and request.header("x-job-error"):
            self._ledger.failed(delivery)
        return [delivery], replace(request, start=request.start.replace(request.path, path, 1))

    def _of(self, path: str) -> tuple[Delivery, str]:
        mark, _, rest = path.removeprefix("/").partition("/")
        return self._ledger.deliveries[int(mark.removeprefix(MARK)) - 1], f"/{rest}"

    async def _pass(
        self, request: Message, client: Client, deliveries: Sequence[Delivery], port: int, hurt: Hurt
    ) -> None:
        if hurt.fault in {Fault.CUT_REQUEST, Fault.CUT_RUNNING}:
            await send_part(port, request, hurt)
        if hurt.fault is Fault.DELAYED:
            await asyncio.sleep(hurt.seconds)
        if hurt.fault is Fault.BOTH:
            answer, _ = await asyncio.gather(
                self._ask(request, deliveries, port), self._ask(request, deliveries, port, copy=True)
            )
        else:
            answer = await self._ask(request, deliveries, port)
        client.answer(answer, share=hurt.share if hurt.fault is Fault.CUT_RESPONSE else None)
        if hurt.fault is Fault.TWICE:
            copying = asyncio.create_task(self._again(request, deliveries, port, hurt.seconds))
            self._copies.add(copying)
            copying.add_done_callback(self._copies.discard)

    async def _again(self, request: Message, deliveries: Sequence[Delivery], port: int, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        with contextlib.suppress(*BROKEN):
            await self._ask(request, deliveries, port, copy=True)

    async def _ask(self, request: Message, deliveries: Sequence[Delivery], port: int, *, copy: bool = False) -> Message:
        sent_at = self._ledger.now()
        answer = await ask(port, request)
        if request.path.endswith("/callback"):
            statuses = [answer.status]
        elif request.path.endswith(BATCH_PATH) and answer.status == 200:
            statuses = [reply["status"] for reply in json.loads(answer.body)["replies"]]
        else:
            statuses = []
        for delivery, status in zip(deliveries, statuses, strict=False):  # none for a sign of life
            self._ledger.reported(delivery, status=status, sent_at=sent_at, copy=copy)
        return answer


def marked(request: Message, delivery: Delivery) -> Message:
    """The request, with this delivery's number in the URLs that it hands out, and beside them for the handler.

    Every other job's report goes alone: nothing is offered to travel together.
    """
    if delivery.number % 2:
        request = request.without_header("x-callback-batch")
    for name in ("x-callback-url", "x-heartbeat-url"):
        parts = urlsplit(request.header(name))
        request = request.with_header(name, urlunsplit(parts._replace(path=f"/{MARK}{delivery.sequence}{parts.path}")))
    return request.with_header("x-chaos-delivery", str(delivery.sequence))
