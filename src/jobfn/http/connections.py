"""Limits on the number of connections to a server: in all, by the process's limit of open files, and per address.

At a limit, connections that wait for their client are closed in favor of new ones, so that silent clients do not take
the server away from others.
"""

import sys
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

#: Maximum number of connections, unless the process may open fewer files. At the limit, uvicorn answers every request
#: with 503, which means busy to a worker.
MAX_CONNECTIONS: Final = 10_000
#: Part of the open files that connections may take. The others are for the database, functions and logs.
OPEN_FILES_SHARE: Final = 0.75
#: Part of the connections that one address may take: most of them, because a gateway has one address.
PEER_SHARE: Final = 0.75
#: Part of the connections that is closed at a limit: finding them is linear in the number of connections.
_CLOSED_SHARE: Final = 0.1
#: Connections above the limit that may wait for their 503.
_SURPLUS_SHARE: Final = 0.1


def default_maximum(open_files: int | None = None) -> int:
    """Return the maximum number of connections of a server.

    Args:
        open_files: Maximum number of open files. Default: the process's; none or -1: unlimited.
    """
    if open_files is None:
        open_files = _open_files()
    return MAX_CONNECTIONS if open_files < 0 else max(1, min(MAX_CONNECTIONS, int(open_files * OPEN_FILES_SHARE)))


def _open_files() -> int:
    if sys.platform == "win32":  # pragma: no cover  - it has no such limit
        return -1
    import resource  # noqa: PLC0415  - not available on Windows

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class LimitedServerState(ServerState):
    """uvicorn's state with limits on its connections.

    Args:
        maximum: Maximum number of connections.
    """

    def __init__(self, maximum: int) -> None:
        super().__init__()
        self._maximum = maximum
        self._peer_maximum = max(1, int(maximum * PEER_SHARE))
        #: The address of each connection that is not closing, the oldest first.
        self._open: dict[HttpToolsProtocol, str] = {}
        self._per_peer: dict[str, int] = {}

    def add(self, connection: HttpToolsProtocol) -> None:
        """Add a new connection. At a limit, close others, or else answer its request with 503."""
        peer = connection.client[0] if connection.client else ""
        crowd: list[HttpToolsProtocol] = []
        maximum = self._maximum
        if self._per_peer.get(peer, 0) >= self._peer_maximum:
            crowd, maximum = [each for each, address in self._open.items() if address == peer], self._peer_maximum
        elif len(self._open) >= self._maximum:
            crowd = list(self._open)
        if crowd and not self._close_waiting(crowd):
            if len(crowd) >= maximum * (1 + _SURPLUS_SHARE):
                connection.transport.abort()
                return
            connection.limit_concurrency = 0
        self._open[connection] = peer
        self._per_peer[peer] = self._per_peer.get(peer, 0) + 1

    def remove(self, connection: HttpToolsProtocol) -> None:
        """Remove a connection that is closed or closing."""
        peer = self._open.pop(connection, None)
        if peer is None:
            return
        if self._per_peer[peer] > 1:
            self._per_peer[peer] -= 1
        else:
            del self._per_peer[peer]

    def _close_waiting(self, connections: list[HttpToolsProtocol]) -> bool:
        """Close some of the connections that wait for their client; return whether there were any."""
        ranks = {each: rank for each in connections if (rank := _rank(each)) is not None}
        closed = sorted(ranks, key=ranks.__getitem__)[: max(1, int(len(connections) * _CLOSED_SHARE))]
        for each in closed:
            each.transport.close()
            self.remove(each)
        return bool(closed)


def _rank(connection: HttpToolsProtocol) -> tuple[int, float] | None:
    """Return the rank of a connection in the order of closing; None if it must stay, because its request runs."""
    cycle: RequestResponseCycle | None = connection.cycle
    if connection.transport.is_closing():
        return None
    if cycle is None:
        return 0, 0.0  # never sent a request
    if cycle.response_complete:
        timer = connection.timeout_keep_alive_task
        return 1, 0.0 if timer is None else timer.when()
    return (2, 0.0) if waits_for_client(connection) else None


def waits_for_client(connection: HttpToolsProtocol) -> bool:
    """Return whether a connection waits for the rest of a request, and not for the app or for its keep-alive timer."""
    cycle: RequestResponseCycle | None = connection.cycle
    if cycle is None or cycle.response_complete:
        return connection.timeout_keep_alive_task is None
    return cycle.more_body and not connection.flow.read_paused
