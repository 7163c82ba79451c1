"""Fixtures of this function's tests: the partners, and the application's table."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobfn.testing import JobsDatabase
from jobfn.triggers import apply_triggers, load_blueprints

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


class Partners:
    """A bank and a carrier, with the requests that they got and their answers by idempotency key."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        #: Paths that answer with this status and error from now on.
        self.refused: dict[str, tuple[int, str]] = {}
        self._answers: dict[str, dict[str, Any]] = {}

    def answer(self, path: str, key: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append((path, content))
        if path in self.refused:
            status, error = self.refused[path]
            return status, {"error": error}
        number = len(self._answers) + 1
        return 200, self._answers.setdefault(key, {"id": f"{path}-{number}", "tracking": f"tracking-{number}"})

    @property
    def effects(self) -> int:
        """How many requests had an effect: those with one key have one together."""
        return len(self._answers)

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@pytest.fixture(name="partners")
def open_partners(monkeypatch: pytest.MonkeyPatch) -> Iterator[Partners]:
    """A server for both partners. The function finds it in its environment."""

    partners = Partners()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = partners.answer(self.path.strip("/"), self.headers["Idempotency-Key"], content)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for name in ("BANK_URL", "CARRIER_URL"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
        yield partners
        server.shutdown()
        thread.join()


@pytest.fixture
async def order_id(jobs_db: JobsDatabase) -> int:
    """An order of two items, whose insert starts the job."""
    jobs_db.execute((FOLDER / "schema.sql").read_text())
    connection = await jobs_db.connect()
    try:
        await apply_triggers(connection, load_blueprints([FOLDER / "blueprint.yaml"]).tables)
    finally:
        await connection.close()
    (row,) = jobs_db.fetch(
        "insert into orders (email, card, cents, items)"
        " values ('ada@example.com', 'card-1', 1999, '{tea,cup}') returning id"
    )
    return int(row["id"])
