"""The syntax of ``JOBS_DATABASES``."""

import pytest

from jobfn.errors import ConfigurationError
from jobfn.worker.database_list import (
    DatabaseEntry,
    changed,
    parse_list,
    parse_query,
    resolve_url,
    row_entry,
    sibling_database,
)
from jobfn.worker.settings import ServiceSettings

MAIN = "postgresql://jobs:s3cr3t@db:5433/main?sslmode=require"


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("shop", [("shop", None)]),
        (" shop , crm,", [("shop", None), ("crm", None)]),
        ("postgresql://u:p@h/shop", [("shop", "postgresql://u:p@h/shop")]),
        ("eu=postgresql://h/shop,us=postgres://h2/shop", [("eu", "postgresql://h/shop"), ("us", "postgres://h2/shop")]),
        (
            "postgresql://a,b:5433/shop,crm,x=postgresql://c,d/y?application_name=z",
            [
                ("shop", "postgresql://a,b:5433/shop"),
                ("crm", None),
                ("x", "postgresql://c,d/y?application_name=z"),
            ],
        ),
        ("postgresql:///with%2Edot", [("with.dot", "postgresql:///with%2Edot")]),
    ],
)
def test_list(text: str, entries: list[tuple[str, str | None]]) -> None:
    assert parse_list(text) == [DatabaseEntry(name, url) for name, url in entries]


NAME_RULE = "must have a name of at most 63 letters, digits, _, . and -, and not begin with . or -: write NAME=URL"
URL_RULE = "must be NAME, URL or NAME=URL with postgresql://user@host/database as URL"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" , ", "JOBS_DATABASES: the list is empty: name at least one database"),
        ("a,a", "JOBS_DATABASES: two databases have the name a: write NAME=URL for one"),
        ("a,b c", f"JOBS_DATABASES: entry 2 {NAME_RULE}"),
        ("x/y", f"JOBS_DATABASES: entry 1 {NAME_RULE}"),
        ("mysql://u:s3cr3t@h/d", f"JOBS_DATABASES: entry 1 {URL_RULE}"),
        ("a,postgresql://u:s3cr3t@h", f"JOBS_DATABASES: entry 2 {URL_RULE}"),
        ("postgresql://u:s3cr3t@[h/d", f"JOBS_DATABASES: entry 1 {URL_RULE}"),
        ("a=s3cr3t", f"JOBS_DATABASES: entry 1 {NAME_RULE}"),
        (
            "query:  ;",
            "JOBS_DATABASES: there is no statement after query: add one that returns names, and addresses in a",
        ),
        (
            ",".join(f"d{number}" for number in range(501)),
            "JOBS_DATABASES: there are 501 databases: run several services with at most 500 each",
        ),
    ],
)
def test_invalid_list_is_named_without_addresses(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ServiceSettings.from_environ({"JOBS_DATABASES": text})
    assert str(raised.value).startswith(message)
    assert "s3cr3t" not in str(raised.value)


def test_settings_do_not_show_addresses() -> None:
    settings = ServiceSettings.from_environ({"JOBS_DATABASES": "a=postgresql://u:s3cr3t@h/d"})
    assert "s3cr3t" not in repr(settings)
    assert "s3cr3t" not in repr(parse_list("a=postgresql://u:s3cr3t@h/d"))


def test_query() -> None:
    assert parse_query("query: select 'a', 'b' ; ") == "select 'a', 'b'"
    assert parse_query("shop") is None
    assert row_entry("a", None, 1) == DatabaseEntry("a")
    assert row_entry("a", "postgresql://h/d", 1) == DatabaseEntry("a", "postgresql://h/d")
    for name, url in (("", None), ("a/b", None), ("a", "s3cr3t")):
        with pytest.raises(ConfigurationError, match="in row 7 must"):
            row_entry(name, url, 7)


@pytest.mark.parametrize(
    ("main", "url"),
    [
        (MAIN, "postgresql://jobs:s3cr3t@db:5433/shop?sslmode=require"),
        ("postgresql:///main?host=/tmp&dbname=main", "postgresql:///shop?host=/tmp"),
        (None, "postgresql:///shop"),
    ],
)
def test_name_is_a_database_of_the_same_server(main: str | None, url: str) -> None:
    assert resolve_url(DatabaseEntry("shop"), main) == url
    assert resolve_url(DatabaseEntry("shop", "postgresql://h/d"), main) == "postgresql://h/d"


def test_name_is_encoded() -> None:
    assert sibling_database("postgresql://h/d", "a b") == "postgresql://h/a%20b"


def test_databases_that_come_and_go() -> None:
    assert changed({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"}) == (["a", "c"], ["c", "d"])
