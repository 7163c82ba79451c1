import asyncio
import contextlib
import sys
import time

from benchmarks.cluster import free_port
from benchmarks.processes import start_process


async def test_proxy_delays_both_directions_and_keeps_the_order() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as echo_server:
        port, echo_port = free_port(), echo_server.sockets[0].getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.peers.delay_proxy", str(port), "127.0.0.1", str(echo_port), "0.05"]
        with start_process("proxy", command, {}, port=port) as proxy:
            await proxy.wait_for_port()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            started_at = time.monotonic()
            sent = b"".join(b"%d " % number for number in range(50_000))
            writer.write(sent)
            first = await reader.read(1)
            assert time.monotonic() - started_at >= 0.1
            assert first + await reader.readexactly(len(sent) - 1) == sent
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
