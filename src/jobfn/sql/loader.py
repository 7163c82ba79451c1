"""Load SQL from the files of a package.

A file of queries has sections, as aiosql reads them::

    -- name: claim_jobs
    -- $1 worker, $2 task identifiers or null.
    select * from @schema@.claim_jobs($1, $2)

``@schema@`` stands for the jobs schema and ``@role@`` for a role, each quoted. No other text from outside is put into a
statement: values travel as parameters. Files are read when their first query is needed, and once.
"""

import functools
import re
from collections.abc import Mapping
from importlib import resources

from jobfn.sql.quoting import quote_identifier

_SECTION = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_query(package: str, path: str, name: str) -> str:
    """Return the text of one section, without its comments and with its placeholders.

    Args:
        package: The package that contains the files.
        path: A file in it, or a folder: then all ``*.sql`` in it.
        name: The section.

    Raises:
        LookupError: There is no such section.
    """
    try:
        return load_queries(package, path)[name]
    except KeyError:
        raise LookupError(f"no query {name!r} in {package}/{path}: add a section `-- name: {name}`") from None


@functools.cache
def load_queries(package: str, path: str) -> Mapping[str, str]:
    """Return all sections of a file, or of a folder, by name. Arguments as ``load_query``.

    Raises:
        LookupError: Two sections have one name.
    """
    found = resources.files(package) / path
    files = [found] if found.is_file() else [file for file in found.iterdir() if file.name.endswith(".sql")]
    queries: dict[str, str] = {}
    for file in files:
        _, *sections = _SECTION.split(file.read_text("utf-8"))
        for name, text in zip(sections[::2], sections[1::2], strict=True):
            if name in queries:
                raise LookupError(f"two queries {name!r} in {package}/{path}: rename one")
            lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
            queries[name] = "\n".join(lines).strip("\n")
    return queries


def render(text: str, schema: str, *, role: str | None = None) -> str:
    """Fill in the schema's name, and a role's.

    The bodies of functions stand between ``$$``. A name may contain that too, so they get a tag that it does not
    contain.
    """
    tag = "$jobfn$"
    while tag in schema:
        tag = f"{tag[:-1]}_$"
    names = {"@schema@": (schema, "schema name"), "@role@": (role or "", "role name")}

    def quoted(place: re.Match[str]) -> str:  # in one pass: a name may contain another placeholder
        name, what = names[place[0]]
        return quote_identifier(name, what=what)

    return re.sub("@schema@|@role@", quoted, text.replace("$$", tag))
