"""Parameters of a database address that the driver does not know: hosts with time limits, and TCP's keepalive.

The names and units are libpq's. The driver would send them to the server as settings.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

from jobfn.tcp import DATABASE, KeepAlive

#: Default time in which a host must accept a connection, and the login.
CONNECT_TIMEOUT_SECONDS = 5.0
#: Parameters that the driver would send to the server as settings. All are whole numbers.
_OWN = frozenset(
    {
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "connect_timeout",
    }
)


class Host(NamedTuple):
    """A server of an address: a name, an IP address or the folder of a Unix socket; and a port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A database address.

    Attributes:
        dsn: What the driver reads; None: the ``PG*`` variables.
        hosts: The servers, if there are several. Otherwise empty: the driver finds the one.
        parameters: Names of the other parameters.
        keepalive: TCP options.
        connect_timeout_seconds: Time limit of each host; None: unlimited.
        target_session_attrs: Kind of server; None: any. Default: of several hosts, the primary.
    """

    dsn: str | None
    hosts: tuple[Host, ...]
    parameters: frozenset[str]
    keepalive: KeepAlive
    connect_timeout_seconds: float | None
    target_session_attrs: str | None


def parse_address(dsn: str | None, environ: Mapping[str, str] = os.environ) -> DatabaseAddress:
    """Return the parts of an address.

    Raises:
        ValueError: A parameter is not a number, or ports and hosts do not match.
    """
    parts = urlsplit(dsn or "")
    pairs = [(unquote_plus(name), value) for name, _, value in (pair.partition("=") for pair in parts.query.split("&"))]
    values = {name: unquote_plus(value) for name, value in pairs if name}
    own = {name: _whole_number(name, values[name]) for name in _OWN & values.keys()}
    keepalive = KeepAlive(
        idle_seconds=own.get("keepalives_idle", DATABASE.idle_seconds),
        interval_seconds=own.get("keepalives_interval", DATABASE.interval_seconds),
        count=own.get("keepalives_count", DATABASE.count),
        user_timeout_seconds=own.get("tcp_user_timeout", DATABASE.user_timeout_seconds * 1000) / 1000,
        is_enabled=own.get("keepalives", 1) != 0,
    )
    timeout = own.get("connect_timeout")
    if timeout is None and environ.get("PGCONNECT_TIMEOUT"):
        timeout = _whole_number("PGCONNECT_TIMEOUT", environ["PGCONNECT_TIMEOUT"])
    connect_timeout = CONNECT_TIMEOUT_SECONDS if timeout is None else timeout
    if dsn is not None and own:
        query = "&".join(pair for pair in parts.query.split("&") if unquote_plus(pair.partition("=")[0]) not in _OWN)
        dsn = parts._replace(query=query).geturl()
    target = values.get("target_session_attrs") or environ.get("PGTARGETSESSIONATTRS") or None
    hosts = _hosts(parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc, values, environ)
    return DatabaseAddress(
        dsn=dsn,
        hosts=tuple(hosts) if len(hosts) > 1 else (),
        parameters=frozenset(values) - _OWN,
        keepalive=keepalive,
        connect_timeout_seconds=connect_timeout if connect_timeout > 0 else None,
        target_session_attrs="primary" if target is None and len(hosts) > 1 else target,
    )


def _hosts(netloc: str, values: Mapping[str, str], environ: Mapping[str, str]) -> list[Host]:
    """Return the servers, by the same rules as the driver."""
    named = [unquote(each) for each in netloc.split(",")] if netloc else []
    if not named and (given := values.get("host") or ("" if "service" in values else environ.get("PGHOST"))):
        named = given.split(",")
    ports = [int(port) for port in (values.get("port") or environ.get("PGPORT") or "5432").split(",")]
    if len(ports) == 1:
        ports *= len(named)
    if named and len(ports) != len(named):
        raise ValueError(f"could not match {len(ports)} port numbers to {len(named)} hosts")
    return [_host(name, port) for name, port in zip(named, ports, strict=False)]


def _host(name: str, port: int) -> Host:
    """Return a server, whose port may follow the name."""
    if name.startswith("/"):
        return Host(name, port)
    if name.startswith("["):
        name, _, own_port = name[1:].partition("]")
    else:
        name, _, own_port = name.partition(":")
    return Host(name, int(own_port.removeprefix(":") or port))


def _whole_number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name} must be a whole number") from None
