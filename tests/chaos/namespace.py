"""A network namespace whose packets to an address can be dropped, as if its machine had vanished: nothing is refused.

Each part of a run has a separate address on the loopback interface. Unix sockets work from outside of the namespace.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence

PROGRAMS = ("unshare", "nsenter", "setpriv", "ip", "nft", "ss")

#: Why no namespace can be opened here; None: it can.
MISSING = (
    "needs root" if os.geteuid() != 0 else ", ".join(f"needs {each}" for each in PROGRAMS if not shutil.which(each))
) or None


class Namespace:
    """A network namespace. See ``open_namespace``."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def command(self, *command: str, uid: int | None = None, gid: int | None = None) -> Sequence[str]:
        """Return a command that runs another one in this namespace, as another user if one is given."""
        inside = ("nsenter", "--target", str(self._pid), "--net", "--")
        user = () if uid is None else ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--")
        return (*inside, *user, *command)

    async def run(self, *command: str) -> str:
        """Run a command in this namespace. Return its output."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, f"{command}: {output.decode()}"
        return output.decode()

    async def prepare(self) -> None:
        """Set up the loopback interface and the table of rules."""
        await self.run("ip", "link", "set", "lo", "up")
        await self.run("nft", "add table inet chaos")
        await self.run("nft", "add chain inet chaos input { type filter hook input priority 0 ; }")

    async def drop(self, address: str) -> None:
        """Drop all packets from and to an address."""
        await self.run("nft", f"add rule inet chaos input ip daddr {address} drop")
        await self.run("nft", f"add rule inet chaos input ip saddr {address} drop")

    async def drop_connections(self, address: str) -> None:
        """Drop the packets of the connections that are open to an address now, and not of later ones."""
        for line in (await self.run("ss", "-Htn", "state", "established", "dst", address)).splitlines():
            port = line.split()[2].rpartition(":")[2]
            await self.run("nft", f"add rule inet chaos input ip saddr {address} tcp dport {port} drop")
            await self.run("nft", f"add rule inet chaos input ip daddr {address} tcp sport {port} drop")

    async def heal(self) -> None:
        """Drop nothing any more."""
        await self.run("nft", "flush chain inet chaos input")


@contextlib.asynccontextmanager
async def open_namespace() -> AsyncIterator[Namespace]:
    """Open a namespace for the block."""
    holder = await asyncio.create_subprocess_exec(
        "unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        await holder.stdout.readline()
        namespace = Namespace(holder.pid)
        await namespace.prepare()
        yield namespace
    finally:
        holder.kill()
        await holder.wait()
