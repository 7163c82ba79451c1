"""SQL text: any schema name goes in whole, and nothing that is not a name goes in at all."""

import re
from importlib import resources

import pytest

from jobfn.database.migrate import migration_files
from jobfn.database.statements import query
from jobfn.errors import ConfigurationError
from jobfn.sql.loader import render
from jobfn.sql.quoting import quote_identifier

FOLDER = resources.files("jobfn.database")
TEXTS = {
    file.name: file.read_text("utf-8")
    for folder in ("schema", "queries")
    for file in (FOLDER / folder).iterdir()
    if file.name.endswith(".sql")
}


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("app_jobs", '"app_jobs"'),
        ("App Jobs", '"App Jobs"'),
        ('a"b', '"a""b"'),
        ("a.b", '"a.b"'),
        ("a'b", '"a\'b"'),
        ("$$", '"$$"'),
        ("работа", '"работа"'),
        ("x" * 63, f'"{"x" * 63}"'),
    ],
)
def test_a_name_is_quoted_as_a_whole(name: str, quoted: str) -> None:
    """Whatever characters it holds, PostgreSQL reads it as one name."""
    assert quote_identifier(name) == quoted


@pytest.mark.parametrize("name", ["", "x" * 64, "é" * 32, "a\0b", "a\udcffb"])
def test_what_postgresql_cannot_name_is_refused(name: str) -> None:
    """Empty, over 63 bytes, a NUL, or bytes of the environment that are not text: one clear line."""
    with pytest.raises(ConfigurationError, match=r"JOBS_SCHEMA=.* is not a schema name"):
        quote_identifier(name, what="schema name")


@pytest.mark.parametrize("schema", ["app_jobs", "$$", "a$jobfn$b", "$jobfn$ $jobfn_$", "@schema@"])
def test_a_body_ends_where_it_should(schema: str) -> None:
    """The tag around a function's body is never part of the schema's name."""
    rendered = render("create function @schema@.f() as $$ select @schema@.g() $$;", schema)
    found = re.fullmatch(r"create function (.+)\.f\(\) as (\$\w+\$) select (.+)\.g\(\) (\$\w+\$);", rendered)
    assert found is not None
    name, opening, again, closing = found.groups()
    assert name == again == quote_identifier(schema)
    assert opening == closing
    assert rendered.count(opening) == 2


@pytest.mark.parametrize("file", TEXTS)
def test_the_schema_is_named_only_where_a_name_can_stand(file: str) -> None:
    """Not in a comment, which a line break in the name would end, and not in a literal, which a quote would."""
    for line in TEXTS[file].splitlines():
        code, _, comment = line.partition("--")
        assert "@schema@" not in comment, line
        assert not any("@schema@" in literal for literal in re.findall(r"'[^']*'", code)), line


def test_a_schema_with_a_line_break_breaks_nothing() -> None:
    """Comments of the files end where their lines end, since no name stands in them."""
    assert '"a\nb".claim_jobs' in query("claim_jobs", "a\nb")


def test_migrations_are_numbered_without_gaps() -> None:
    """1, 2, 3 and so on, in order, each number once."""
    found = migration_files()
    assert [version for version, _, _ in found] == list(range(1, len(found) + 1))
    assert all("@schema@" in text for _, _, text in found)
