"""libpq's parameters of a database address are honoured, and the others reach the driver."""

import pytest

from jobfn.sql.address import Host, parse_address
from jobfn.tcp import KeepAlive

DSN = "postgresql://ada:p%40ss@db/shop"


@pytest.mark.parametrize(
    ("dsn", "environ", "hosts"),
    [
        ("postgresql://one/shop", {}, ()),
        ("postgresql:///shop", {}, ()),
        (None, {"PGHOST": "one"}, ()),
        ("postgresql://one,two/shop", {}, (Host("one", 5432), Host("two", 5432))),
        ("postgresql://ada:secret@one:1,two:2/shop", {}, (Host("one", 1), Host("two", 2))),
        ("postgresql://one,two:2/shop", {"PGPORT": "7"}, (Host("one", 7), Host("two", 2))),
        ("postgresql://[::1]:5,[::2]/shop", {}, (Host("::1", 5), Host("::2", 5432))),
        ("postgresql:///shop?host=one,/run/pg&port=1,2", {}, (Host("one", 1), Host("/run/pg", 2))),
        ("postgresql:///shop", {"PGHOST": "one,two", "PGPORT": "1,2"}, (Host("one", 1), Host("two", 2))),
        ("postgresql://one/shop", {"PGHOST": "two,three"}, ()),
        ("postgresql:///shop?service=x", {"PGHOST": "two,three"}, ()),
    ],
)
def test_hosts(dsn: str | None, environ: dict[str, str], hosts: tuple[Host, ...]) -> None:
    assert parse_address(dsn, environ).hosts == hosts


def test_address_without_parameters_has_defaults() -> None:
    address = parse_address(DSN, {})
    assert address.dsn == DSN
    assert address.keepalive == KeepAlive(5, 2, 3, 10.0)
    assert address.connect_timeout_seconds == 5
    assert address.target_session_attrs is None


def test_parameters_of_libpq_do_not_reach_the_server() -> None:
    query = "?keepalives_idle=6&sslmode=disable&tcp_user_timeout=700&connect_timeout=8&work_mem=9MB"
    address = parse_address(DSN + query + "&target_session_attrs=any", {})
    assert address.dsn == DSN + "?sslmode=disable&work_mem=9MB&target_session_attrs=any"
    assert address.keepalive == KeepAlive(6, 2, 3, 0.7)
    assert address.connect_timeout_seconds == 8
    assert address.target_session_attrs == "any"
    assert address.parameters == {"sslmode", "work_mem", "target_session_attrs"}
    assert parse_address(DSN + "?keepalives=0", {}).keepalive.is_enabled is False


def test_primary_of_several_hosts_is_used() -> None:
    assert parse_address("postgresql://db1,db2/shop", {}).target_session_attrs == "primary"
    assert parse_address("postgresql://db1,db2/shop?target_session_attrs=any", {}).target_session_attrs == "any"


def test_environment_sets_what_the_address_does_not() -> None:
    environ = {"PGCONNECT_TIMEOUT": "0", "PGTARGETSESSIONATTRS": "read-write"}
    address = parse_address(DSN, environ)
    assert address.connect_timeout_seconds is None
    assert address.target_session_attrs == "read-write"
    address = parse_address(DSN + "?connect_timeout=4&target_session_attrs=any", environ)
    assert address.connect_timeout_seconds == 4
    assert address.target_session_attrs == "any"


@pytest.mark.parametrize(
    ("dsn", "problem"),
    [
        (DSN + "?keepalives_idle=soon", "keepalives_idle must be a whole number"),
        ("postgresql:///shop?host=a,b,c&port=1,2", "could not match 2 port numbers to 3 hosts"),
    ],
)
def test_invalid_address_is_refused(dsn: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_address(dsn, {})


def test_hosts_are_shown_with_their_ports() -> None:
    assert [str(Host("db", 5432)), str(Host("::1", 5432))] == ["db:5432", "[::1]:5432"]
