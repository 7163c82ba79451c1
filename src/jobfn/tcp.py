"""TCP options that end a connection if the machine at its other end has vanished.

A machine that loses power or its network sends nothing, so a connection to it stays open: for two hours if it is idle,
for a quarter of an hour if it waits for an acknowledgment.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

#: One TCP option: level, name, value.
Option = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """When to give a connection up. Options that a system does not have are left out.

    Attributes:
        idle_seconds: Time without a packet after which the other machine is probed; 0: the system's.
        interval_seconds: Interval between probes; 0: the system's.
        count: Number of unanswered probes; 0: the system's. Linux uses the user timeout instead, if it is set.
        user_timeout_seconds: Time after which a packet must be acknowledged; 0: the system's.
        is_enabled: Whether to probe at all.
    """

    idle_seconds: int = 5
    interval_seconds: int = 2
    count: int = 3
    user_timeout_seconds: float = 10.0
    is_enabled: bool = True

    @classmethod
    def within(cls, seconds: float) -> Self:
        """Return options that give a connection up after a time, whether it is idle or waits for an acknowledgment."""
        probe_seconds = max(1, round(seconds / 3))
        return cls(max(1, round(seconds) - probe_seconds), probe_seconds, 1, seconds)

    def options(self) -> Iterator[Option]:
        """Yield the options of a socket."""
        if self.is_enabled:
            yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
            for name, value in (
                ("TCP_KEEPIDLE", self.idle_seconds),
                ("TCP_KEEPINTVL", self.interval_seconds),
                ("TCP_KEEPCNT", self.count),
            ):
                if value > 0 and hasattr(socket, name):
                    yield socket.IPPROTO_TCP, getattr(socket, name), value
        if self.user_timeout_seconds > 0 and hasattr(socket, "TCP_USER_TIMEOUT"):
            yield socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self.user_timeout_seconds * 1000)

    def apply(self, connected: Any) -> None:
        """Set the options of a socket, or of a transport's socket. Does nothing to a Unix socket."""
        if connected.family in {socket.AF_INET, socket.AF_INET6}:
            for option in self.options():
                connected.setsockopt(*option)


#: For connections to PostgreSQL, unless the address says otherwise.
DATABASE: Final = KeepAlive()
#: For connections over HTTP, whose loss can repeat a job: they outlast a longer break of the network.
HTTP: Final = KeepAlive.within(15.0)
