"""A TCP proxy that delays each direction: ``PORT HOST PORT SECONDS``. A host that is a path is a Unix socket's folder.

Chunks keep their order and do not wait for each other, so the delay does not limit the bandwidth.
"""

import asyncio
import contextlib
import selectors
import sys


async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the server."""
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float) -> None:
    """Copy one direction until its end."""
    chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    clock = asyncio.get_running_loop().time

    async def write() -> None:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(due - clock())
            if not data:
                writer.close()
                return
            writer.write(data)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        data = b"-"
        while data:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            chunks.put_nowait((clock() + delay_seconds, data))


async def serve(port: int, host: str, server_port: int, delay_seconds: float) -> None:
    """Serve until cancelled."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            server_reader, server_writer = await connect(host, server_port)
            await asyncio.gather(pump(reader, server_writer, delay_seconds), pump(server_reader, writer, delay_seconds))

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main(arguments: list[str]) -> None:
    """Run the proxy."""
    port, host, server_port, delay_seconds = arguments
    # select waits for microseconds, epoll and libuv round up to milliseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(serve(int(port), host, int(server_port), float(delay_seconds)))


if __name__ == "__main__":
    main(sys.argv[1:])
