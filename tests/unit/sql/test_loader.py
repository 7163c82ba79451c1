"""Loading queries from files, and the placeholders in them."""

import re
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

import jobfn
from jobfn.database.migrate import migration_files
from jobfn.database.statements import query
from jobfn.sql.loader import load_queries, load_query, omit_arguments, render

SOURCES = "".join(file.read_text("utf-8") for file in Path(jobfn.__file__).parent.rglob("*.py"))
SQL_FILES = {
    file.name: file.read_text("utf-8")
    for folder in ("schema", "queries")
    for file in (resources.files("jobfn.database") / folder).iterdir()
    if file.name.endswith(".sql")
}


@pytest.mark.parametrize(
    ("package", "path"),
    [("jobfn.database", "queries"), ("jobfn.client", "queries.sql"), ("jobfn.triggers", "queries.sql")],
)
def test_every_query_is_used(package: str, path: str) -> None:
    assert [name for name in load_queries(package, path) if f'"{name}"' not in SOURCES] == []


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package named ``loaded``."""
    folder = tmp_path / "loaded"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop("loaded", None)
    load_queries.cache_clear()


def test_whole_line_comments_are_removed(package: Path) -> None:
    (package / "queries.sql").write_text(
        "-- About.\n\n-- name: one\n-- $1 it.\nselect $1, -- first\n    2\n\n-- name: two\nx"
    )
    assert load_queries("loaded", "queries.sql") == {"one": "select $1, -- first\n    2", "two": "x"}


def test_missing_section_is_an_error(package: Path) -> None:
    (package / "queries.sql").write_text("-- name: one\nselect 1")
    with pytest.raises(LookupError, match=r"no query 'two' in loaded/queries.sql: add a section `-- name: two`"):
        load_query("loaded", "queries.sql", "two")


def test_arguments_are_left_out_and_placeholders_numbered_anew() -> None:
    text = "select f(x := $4, a := $1,\n    b := $2, c => cast(cast($3 as text) as int))"
    assert omit_arguments(text, ("b",)) == "select f(x := $3, a := $1, c => cast(cast($2 as text) as int))"
    assert omit_arguments(text, ("b", "c")) == "select f(x := $2, a := $1)"
    assert omit_arguments(text, ()) == text
    with pytest.raises(LookupError, match="the statement has no argument d"):
        omit_arguments(text, ("d",))


def test_name_in_two_files_is_an_error(package: Path) -> None:
    (package / "queries").mkdir()
    for file in ("a.sql", "b.sql"):
        (package / "queries" / file).write_text("-- name: one\nselect 1")
    with pytest.raises(LookupError, match=r"two queries 'one' in loaded/queries: rename one"):
        load_queries("loaded", "queries")


@pytest.mark.parametrize(
    ("schema", "tag"),
    [
        ("app_jobs", "$jobfn$"),
        ("$$", "$jobfn$"),
        ("a$jobfn$b", "$jobfn_$"),
        ("$jobfn$ $jobfn_$", "$jobfn__$"),
        ("@schema@", "$jobfn$"),
        ("@role@", "$jobfn$"),
        ("a\nb", "$jobfn$"),
    ],
)
def test_function_body_gets_a_tag_that_is_not_in_the_schema_name(schema: str, tag: str) -> None:
    text = "create function @schema@.f() as $$ select @schema@.g() $$;"
    assert render(text, schema) == f'create function "{schema}".f() as {tag} select "{schema}".g() {tag};'


def test_qualified_name_in_quotes_becomes_a_literal() -> None:
    assert render("nextval('@schema@.ids')", "it's") == """nextval('"it''s".ids')"""


def test_schema_and_role_are_quoted() -> None:
    assert query("grant_vacuum", 'a"b', role="c d") == 'grant maintain on "a""b".jobs to "c d"'


@pytest.mark.parametrize("file", SQL_FILES)
def test_placeholders_are_not_in_comments_or_string_literals(file: str) -> None:
    """A line break in a name would end the comment. A literal may only be a qualified name."""
    for line in SQL_FILES[file].splitlines():
        code, _, comment = line.partition("--")
        assert "@schema@" not in comment, line
        literals = [literal for literal in re.findall(r"'[^']*'", code) if "@schema@" in literal]
        assert all(re.fullmatch(r"'@schema@\.\w+'", literal) for literal in literals), line


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    files = migration_files()
    assert [file.version for file in files] == [number for number, _ in enumerate(files, 1)]
