"""TCP options for a time limit."""

import socket

import pytest

from jobfn.tcp import KeepAlive


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(15.0, KeepAlive(10, 5, 1, 15.0)), (3.0, KeepAlive(2, 1, 1, 3.0)), (2.0, KeepAlive(1, 1, 1, 2.0))],
)
def test_options_for_a_time_limit(seconds: float, expected: KeepAlive) -> None:
    assert KeepAlive.within(seconds) == expected


def test_zero_leaves_the_choice_to_the_system() -> None:
    assert list(KeepAlive(0, 0, 0, 0.0).options()) == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    assert list(KeepAlive(0, 0, 0, 0.0, is_enabled=False).options()) == []


def test_unix_sockets_have_no_such_options() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        KeepAlive().apply(ours)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
