"""Clients that open connections to a server, and leave no place to others."""

import pytest

from jobfn.http.connections import default_maximum
from support.http import BOTH_LOOPS, GatedApp, RawClient, request, serving

INCOMPLETE = request(b"/", b"Content-Length: 9", method=b"POST")


@BOTH_LOOPS
@pytest.mark.parametrize("sent", [b"", b"GET / HT", request(), INCOMPLETE], ids=["nothing", "head", "idle", "body"])
async def test_silent_clients_make_room_for_others(sent: bytes) -> None:
    async with serving(GatedApp("/"), max_connections=20) as running:
        silent: list[RawClient] = []
        for _ in range(50):
            silent.append(await running.connect())
            await silent[-1].send(sent)
        for _ in range(3):
            honest = await running.connect()
            await honest.send(request())
            assert (await honest.read_response()).status == 200
        assert not await silent[0].read_until_closed() or sent == request()


@BOTH_LOOPS
async def test_running_requests_of_one_address_stay_and_further_ones_are_refused() -> None:
    app = GatedApp("/")
    async with serving(app, max_connections=20) as running:
        clients = [await running.connect() for _ in range(15)]
        for number, client in enumerate(clients):
            await client.send(request(b"/%d" % number))
            await app.arrived(f"/{number}").wait()
        for _ in range(2):
            refused = await running.connect()
            await refused.send(request())
            assert (await refused.read_response()).status == 503
        for number, client in enumerate(clients):
            app.gate(f"/{number}").set()
            assert (await client.read_response()).status == 200


async def test_surplus_connections_are_closed() -> None:
    app = GatedApp()
    async with serving(app, max_connections=2) as running:
        first = await running.connect()
        await first.send(request(b"/1"))
        await app.arrived("/1").wait()
        surplus = [await running.connect() for _ in range(5)]
        for client in surplus[:4]:
            assert await client.read_until_closed() == b""
        await surplus[4].send(request())
        assert (await surplus[4].read_response()).status == 503
        app.gate("/1").set()
        assert (await first.read_response()).status == 200


@pytest.mark.parametrize(
    ("open_files", "connections"),
    [(256, 192), (1024, 768), (20_000, 10_000), (1_048_576, 10_000), (-1, 10_000), (1, 1)],
)
def test_connections_leave_files_to_others(open_files: int, connections: int) -> None:
    assert default_maximum(open_files) == connections
