"""SQL from files: ``schema/*.sql`` and ``queries/*.sql``, with the jobs schema's name filled in.

``@schema@`` stands for the schema, quoted. Nothing that comes from outside is ever put into a statement's text:
values travel as parameters.
"""

import functools
import re
from importlib import resources

from jobfn.errors import ConfigurationError

_PACKAGE = resources.files("jobfn.database")
_MIGRATION = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")


def quote_identifier(name: str) -> str:
    """A name as SQL reads it, whatever characters it holds.

    Raises:
        ConfigurationError: PostgreSQL has no such names: empty, over 63 bytes, holding a NUL, or no text.
    """
    if not name or len(name.encode("utf-8", "surrogatepass")) > 63 or re.search("[\0\ud800-\udfff]", name):
        raise ConfigurationError(f"JOBS_SCHEMA={name!r} is no schema name: use 1 to 63 bytes, such as app_jobs")
    return '"' + name.replace('"', '""') + '"'


@functools.cache
def query(name: str, schema: str) -> str:
    """The statement of ``queries/{name}.sql`` for this schema."""
    return render((_PACKAGE / "queries" / f"{name}.sql").read_text("utf-8"), schema)


def migrations() -> list[tuple[int, str, str]]:
    """The numbered migrations, in order: version, name, text with ``@schema@`` still in it."""
    found = []
    for file in (_PACKAGE / "schema").iterdir():
        match = _MIGRATION.fullmatch(file.name)
        if match is not None:
            found.append((int(match["version"]), match["name"], file.read_text("utf-8")))
    return sorted(found)


def render(text: str, schema: str) -> str:
    """Fill in the schema's name.

    The bodies of functions stand between ``$$``; a name may hold that too, so they get a tag that it does not hold.
    """
    tag = "$jobfn$"
    while tag in schema:
        tag = f"{tag[:-1]}_$"
    return text.replace("$$", tag).replace("@schema@", quote_identifier(schema))
