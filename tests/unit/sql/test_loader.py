"""Query files: each section is used, each query that code asks for exists, and mistakes are clear errors."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobfn
from jobfn.sql.loader import load_queries, load_query

SOURCE = Path(jobfn.__file__).parent
FILES = [("jobfn.database", "queries"), ("jobfn.client", "queries.sql"), ("jobfn.triggers", "queries.sql")]
#: Functions whose first argument, or a default in it, is the name of a query, by the package that calls them.
LOADERS = {"query", "_query", "statement", "Statement", "fetch", "_fetch"}


def asked_for(package: str) -> Iterator[str]:
    """The names that calls of loaders in a package have as their first argument."""
    for file in (SOURCE / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name in LOADERS:
                yield from _texts(node.args[0])


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def texts(folder: Path) -> set[str]:
    """All string constants in the code of a folder."""
    return {
        node.value
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize(("package", "path"), FILES)
def test_each_section_is_used(package: str, path: str) -> None:
    """A query that no code names is deleted with the code that used it."""
    folder = SOURCE if package == "jobfn.database" else SOURCE / package.removeprefix("jobfn.")
    assert set(load_queries(package, path)) - texts(folder) == set()


@pytest.mark.parametrize(
    ("package", "path", "callers"),
    [
        (*FILES[0], ("database", "operations", "scheduler", "worker")),
        (*FILES[1], ("client", "function")),
        (*FILES[2], ("triggers",)),
    ],
)
def test_each_query_that_is_asked_for_exists(package: str, path: str, callers: tuple[str, ...]) -> None:
    """A name that is spelt wrong fails here, and not when its code runs."""
    asked = {name for caller in callers for name in asked_for(caller)}
    assert asked
    assert asked - set(load_queries(package, path)) == set()


@pytest.mark.parametrize(("package", "path"), FILES)
def test_no_section_is_empty(package: str, path: str) -> None:
    """Comments are left out, and a statement is left."""
    for name, text in load_queries(package, path).items():
        assert text.strip(), name
        assert not any(line.lstrip().startswith("--") for line in text.splitlines()), name


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


def test_a_section_has_its_statement_without_comments(package: Path) -> None:
    """Comments at the end of a line stay: they do no harm there."""
    (package / "queries.sql").write_text(
        "-- About.\n\n-- name: one\n-- $1 it.\nselect $1, -- first\n    2\n\n-- name: two\nx"
    )
    assert load_queries("loaded", "queries.sql") == {"one": "select $1, -- first\n    2", "two": "x"}


def test_a_missing_section_says_what_to_add(package: Path) -> None:
    """The error has the file, the name, and the line that defines it."""
    (package / "queries.sql").write_text("-- name: one\nselect 1")
    with pytest.raises(LookupError, match=r"no query 'two' in loaded/queries.sql: add a section `-- name: two`"):
        load_query("loaded", "queries.sql", "two")


def test_a_name_in_two_files_is_an_error(package: Path) -> None:
    """Which of them was meant, nobody could see from the call."""
    (package / "queries").mkdir()
    for file in ("a.sql", "b.sql"):
        (package / "queries" / file).write_text("-- name: one\nselect 1")
    with pytest.raises(LookupError, match=r"two queries 'one' in loaded/queries: rename one"):
        load_queries("loaded", "queries")
