"""``JOBS_DATABASES``: the databases of a service.

A comma-separated list, or ``query:`` and a statement that returns one::

    JOBS_DATABASES=shop,crm
    JOBS_DATABASES=eu=postgresql://jobs@eu.example/shop,us=postgresql://jobs@us.example/shop
    JOBS_DATABASES=query: select datname from pg_database where datname like 'tenant_%'

A database name alone means another database of the server of ``DATABASE_URL``, with the same login. Its name, or the
one before ``=``, or else the database name of the URL, is used in logs, metrics and callback URLs. No message contains
an address, which may hold a password.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from jobfn.errors import ConfigurationError

#: Maximum number of databases of a service. Each has two connections, and its own metrics.
MAX_DATABASES: Final = 500
_QUERY_PREFIX: Final = "query:"
#: Names are a segment of a path, and the value of a label.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
#: The name before a URL.
_NAMED: Final = re.compile(r"([^=:/?@]*)=(?=postgres(?:ql)?://)")
_SCHEMES: Final = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class DatabaseEntry:
    """A database of a service.

    Attributes:
        name: Unique name.
        url: Address; None: the server of ``DATABASE_URL``, and the database with this name.
    """

    name: str
    url: str | None = field(default=None, repr=False)


def parse_query(text: str) -> str | None:
    """Return the statement that returns the databases; None if ``JOBS_DATABASES`` is a list.

    Raises:
        ConfigurationError: The statement is empty.
    """
    text = text.strip()
    if not text.startswith(_QUERY_PREFIX):
        return None
    statement = text.removeprefix(_QUERY_PREFIX).strip().removesuffix(";").rstrip()
    if not statement:
        raise ConfigurationError(
            "there is no statement after query: add one that returns names, and addresses in a second column"
        )
    return statement


def parse_list(text: str) -> list[DatabaseEntry]:
    """Return the databases of a list.

    Raises:
        ConfigurationError: An entry is not valid, two have the same name, or there are none or too many.
    """
    entries: dict[str, DatabaseEntry] = {}
    for number, part in enumerate(_split(text), start=1):
        add_entry(entries, _entry(part, f"entry {number}"))
    if not entries:
        raise ConfigurationError("the list is empty: name at least one database")
    if len(entries) > MAX_DATABASES:
        raise ConfigurationError(
            f"there are {len(entries)} databases: run several services with at most {MAX_DATABASES} each"
        )
    return list(entries.values())


def add_entry(entries: dict[str, DatabaseEntry], entry: DatabaseEntry) -> None:
    """Add a database to those with other names.

    Raises:
        ConfigurationError: One has its name.
    """
    if entry.name in entries:
        raise ConfigurationError(f"two databases have the name {entry.name}: write NAME=URL for one")
    entries[entry.name] = entry


def row_entry(name: str, url: str | None, number: int) -> DatabaseEntry:
    """Return the database of a row of the statement.

    Raises:
        ConfigurationError: The row is not valid.
    """
    if url is not None and not url.startswith(_SCHEMES):
        raise ConfigurationError(f"the address in row {number} must begin with postgresql://")
    return DatabaseEntry(_checked(name, f"the name in row {number}"), url)


def resolve_url(entry: DatabaseEntry, main_url: str | None) -> str:
    """Return the address of a database.

    Args:
        entry: The database.
        main_url: ``DATABASE_URL``; None: the ``PG*`` variables.
    """
    return entry.url if entry.url is not None else sibling_database(main_url, entry.name)


def sibling_database(url: str | None, name: str) -> str:
    """Return the address of another database of the same server."""
    path = f"/{quote(name, safe='')}"
    if url is None:
        return f"postgresql://{path}"
    parts = urlsplit(url)
    query = "&".join(pair for pair in parts.query.split("&") if pair.partition("=")[0] not in {"dbname", "database"})
    return f"{parts.scheme}://{parts.netloc}{path}{'?' if query else ''}{query}"


def _split(text: str) -> Iterable[str]:
    """Split a list at its commas, but not at those between the hosts of a URL, which has a path after them."""
    entry = ""
    for part in text.split(","):
        entry = f"{entry},{part}" if entry else part.strip()
        if "://" in entry and "/" not in entry.partition("://")[2]:
            continue
        if entry.strip():
            yield entry.strip()
        entry = ""
    if entry:
        yield entry.strip()


def _entry(text: str, where: str) -> DatabaseEntry:
    named = _NAMED.match(text)
    if named is None and "://" not in text:
        return DatabaseEntry(_checked(text, where))
    url = text[named.end() :] if named is not None else text
    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    if not url.startswith(_SCHEMES) or not path.strip("/"):
        raise ConfigurationError(f"{where} must be NAME, URL or NAME=URL with postgresql://user@host/database as URL")
    return DatabaseEntry(_checked(named[1] if named is not None else unquote(path.strip("/")), where), url)


def _checked(name: str, where: str) -> str:
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where} must have a name of at most 63 letters, digits, _, . and -, and not begin with . or -: write "
            "NAME=URL"
        )
    return name


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the names to stop and the names to start, from the addresses by name before and now."""
    stop = [name for name, url in old.items() if new.get(name) != url]
    return stop, [name for name, url in new.items() if old.get(name) != url]
