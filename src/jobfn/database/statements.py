"""SQL from files: ``schema/*.sql`` and ``queries/*.sql``, with the jobs schema's name filled in.

``@schema@`` stands for the schema, ``@role@`` for a role, each quoted. Nothing else that comes from outside is ever put
into a statement's text: values travel as parameters.
"""

import functools
import re
from importlib import resources

from jobfn.identifiers import quote_identifier

__all__ = ["migrations", "query", "quote_identifier", "render"]

_PACKAGE = resources.files("jobfn.database")
_MIGRATION = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")


@functools.cache
def query(name: str, schema: str, *, role: str | None = None) -> str:
    """The statement of ``queries/{name}.sql`` for this schema, and for this role where it speaks of one."""
    return render((_PACKAGE / "queries" / f"{name}.sql").read_text("utf-8"), schema, role=role)


def migrations() -> list[tuple[int, str, str]]:
    """The numbered migrations, in order: version, name, text with ``@schema@`` still in it."""
    found = []
    for file in (_PACKAGE / "schema").iterdir():
        match = _MIGRATION.fullmatch(file.name)
        if match is not None:
            found.append((int(match["version"]), match["name"], file.read_text("utf-8")))
    return sorted(found)


def render(text: str, schema: str, *, role: str | None = None) -> str:
    """Fill in the schema's name, and a role's.

    The bodies of functions stand between ``$$``; a name may hold that too, so they get a tag that it does not hold.
    """
    tag = "$jobfn$"
    while tag in schema:
        tag = f"{tag[:-1]}_$"
    names = {"@schema@": (schema, "schema"), "@role@": (role or "", "role")}

    def quoted(place: re.Match[str]) -> str:  # in one pass: a name may hold what stands for another
        name, what = names[place[0]]
        return quote_identifier(name, what=what)

    return re.sub("@schema@|@role@", quoted, text.replace("$$", tag))
