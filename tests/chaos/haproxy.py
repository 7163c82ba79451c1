"""HAProxy in front of a primary and its standby, as it is often set up: it does not know which one is the primary."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from chaos.namespace import Namespace

#: The standby gets connections when the primary fails its checks. Existing connections stay where they are.
_CONFIGURATION = """\
global
    maxconn 200
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout check 1s
listen postgres
    bind {address}:{port}
    option tcp-check
    default-server inter 1s fall 2 rise 1
    server primary {primary} check
    server standby {standby} check backup
"""


@contextlib.asynccontextmanager
async def run_haproxy(
    namespace: Namespace, folder: Path, *, address: str, port: int, primary: str, standby: str
) -> AsyncIterator[None]:
    """Run HAProxy on an address in the namespace."""
    configuration = folder / "haproxy.cfg"
    configuration.write_text(_CONFIGURATION.format(address=address, port=port, primary=primary, standby=standby))
    with (folder / "haproxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *namespace.command("haproxy", "-db", "-f", str(configuration)), stdout=log, stderr=log
        )
    try:
        yield
        assert process.returncode is None, (folder / "haproxy.log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
