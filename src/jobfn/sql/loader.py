"""Load SQL from the files of a package.

A file has sections, as aiosql reads them::

    -- name: claim_jobs
    -- $1 worker, $2 task identifiers or null.
    select * from @schema@.claim_jobs($1, $2)

``@schema@`` stands for the jobs schema and ``@role@`` for a role, each quoted. Other values travel as parameters.
"""

import functools
import re
from collections.abc import Mapping
from importlib import resources

from jobfn.sql.quoting import quote_identifier, quote_literal

_SECTION = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_query(package: str, path: str, name: str) -> str:
    """Return the text of a section, with its placeholders and without whole-line comments.

    Args:
        package: The package that contains the files.
        path: A file in the package, or a folder with ``*.sql`` files.
        name: The section's name.

    Raises:
        LookupError: There is no such section.
    """
    try:
        return load_queries(package, path)[name]
    except KeyError:
        raise LookupError(f"no query {name!r} in {package}/{path}: add a section `-- name: {name}`") from None


@functools.cache
def load_queries(package: str, path: str) -> Mapping[str, str]:
    """Return all sections of a file, or of the files in a folder, by name. Arguments as ``load_query``.

    Raises:
        LookupError: Two sections have the same name.
    """
    location = resources.files(package) / path
    files = [location] if location.is_file() else [file for file in location.iterdir() if file.name.endswith(".sql")]
    queries: dict[str, str] = {}
    for file in files:
        _, *sections = _SECTION.split(file.read_text("utf-8"))
        for name, text in zip(sections[::2], sections[1::2], strict=True):
            if name in queries:
                raise LookupError(f"two queries {name!r} in {package}/{path}: rename one")
            lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
            queries[name] = "\n".join(lines).strip("\n")
    return queries


@functools.cache
def omit_arguments(text: str, names: tuple[str, ...]) -> str:
    """Return a statement without some named arguments of its function, so that they have the function's defaults.

    Each must follow another argument. The remaining placeholders are numbered anew.
    """
    removed: list[int] = []
    for name in names:
        found = re.search(rf",\s*{name} (?:=>|:=)\D*?\$(\d+)(?: as text\) as int\))?", text)
        if found is None:
            raise LookupError(f"the statement has no argument {name}: leave it out of the names")
        removed.append(int(found[1]))
        text = text[: found.start()] + text[found.end() :]

    def renumber(found: re.Match[str]) -> str:
        number = int(found[1])
        return f"${number - sum(each < number for each in removed)}"

    return re.sub(r"\$(\d+)", renumber, text)


def render(text: str, schema: str, *, role: str | None = None) -> str:
    """Replace the placeholders of the schema and the role.

    Function bodies are quoted with ``$$``, which a name may contain. So they get a tag that the schema's name does not
    contain. ``'@schema@.x'`` in single quotes becomes a literal.
    """
    tag = "$jobfn$"
    while tag in schema:
        tag = f"{tag[:-1]}_$"
    names = {"@schema@": (schema, "schema name"), "@role@": (role or "", "role name")}

    def quote(placeholder: re.Match[str]) -> str:
        if placeholder["relation"] is not None:
            return quote_literal(f"{quote_identifier(schema, what='schema name')}.{placeholder['relation']}")
        name, what = names[placeholder[0]]
        return quote_identifier(name, what=what)

    # One pass, because a name may contain another placeholder.
    return re.sub(r"'@schema@\.(?P<relation>\w+)'|@schema@|@role@", quote, text.replace("$$", tag))
