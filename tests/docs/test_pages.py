"""Every code block of the documentation, run in its page's order: Python, SQL, and what is typed into a terminal.

A block whose first line is a comment with a file's name (``# functions.py``) is that file. ``dsn`` and ``connection``
are the page's own database. What installs something, or calls another ecosystem's tools, is only read.
"""

import ast
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from jobfn.testing import JobsDatabase, RunJobs
from jobfn.testing.database import LoopThread
from support import Spawn

DOCS = Path(__file__).parents[2] / "docs"
#: Whole pages that are run. Of the guides that are not among them, Python and data blocks are read.
PAGES = [DOCS / "index.md", DOCS / "tutorial.md", DOCS / "why.md", *sorted((DOCS / "how-to").glob("*.md"))]
GUIDES = sorted(set(DOCS.glob("*.md")) - set(PAGES))
_FILE = re.compile(r"(?:#|--) ([\w-]+\.\w+)\n")
#: Not ours to run in a test: they install, or call what is not installed here.
_ONLY_READ = ("python3 -m venv", "pip install", "npx ")
#: What keeps running until the page ends, the words that say it has started, and what makes it fit for a test.
_SERVERS = {"jobfn dev": ("looking for jobs", ["--port", "0"])}


class Page:
    """One page's blocks, run one after the other."""

    def __init__(self, folder: Path, dsn: str, connection: "asyncpg.Connection[Any]", spawn: Spawn) -> None:
        self._folder = folder
        self._connection = connection
        self._spawn = spawn
        self._env = {"DATABASE_URL": dsn, "PYTHONPATH": str(folder)}
        self._loop = LoopThread()
        names = {"dsn": dsn, "connection": connection, "run_jobs": RunJobs(JobsDatabase(dsn, self._loop))}
        self._module = types.ModuleType("page")
        vars(self._module).update(names)

    async def run(self, language: str, text: str) -> None:
        """Run one block."""
        file = _FILE.match(text)
        if file is not None:
            (self._folder / file[1]).write_text(text)
        match language:
            case "python" if file is not None and file[1].startswith("test_"):
                pass  # run by the page's own pytest command
            case "python":
                await self._python(text, module=file[1].removesuffix(".py") if file is not None else None)
            case "sql":
                await self._connection.execute(text)
            case "console":
                for command, expected in _commands(text):
                    await self._command(command, expected)
            case _:
                read(language, text)

    def close(self) -> None:
        """Forget the page's modules."""
        self._loop.close()
        for name in ("functions", "page"):
            sys.modules.pop(name, None)

    async def _python(self, text: str, *, module: str | None) -> None:
        target = self._module
        if module is not None:
            target = sys.modules[module] = types.ModuleType(module)
            target.__file__ = str(self._folder / f"{module}.py")
        else:
            sys.modules["page"] = target
        code = compile(text, getattr(target, "__file__", None) or "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        found = eval(code, vars(target))  # noqa: S307  - the documentation's own code
        if inspect.isawaitable(found):
            await found

    async def _command(self, command: str, expected: list[str]) -> None:
        if command.startswith(_ONLY_READ):
            return
        words = shlex.split(command)
        if words[0] == "pytest":
            words = ["python", "-m", "pytest", "-p", "no:cacheprovider", *words[1:]]
        started, extra = _SERVERS.get(" ".join(words[:2]), ("", []))
        running = await self._spawn(*words, *extra, **self._env)
        if started:
            await running.until(started)
            return
        code = await running.ended(seconds=120)
        output = "\n".join(running.lines)
        assert code == 0, f"$ {command}\n{output}"
        for line in expected:
            assert line in output, f"$ {command}\nsays no {line!r} but:\n{output}"


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a terminal session, each with the lines that it is shown to print."""
    command: str | None = None
    expected: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            if command is not None:
                yield command, expected
            command, expected = line[2:], []
        elif line.strip():
            expected.append(line)
    if command is not None:
        yield command, expected


def read(language: str, text: str) -> None:
    """Look whether a block is what it says it is."""
    if language == "json":
        json.loads(text)
    elif language in {"yaml", "yml"}:
        list(yaml.safe_load_all(text))
    elif language == "js" and shutil.which("node"):
        subprocess.run(["node", "--check", "--input-type=module", "-"], input=text, text=True, check=True)  # noqa: S607
    elif language == "python":
        compile(text, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """The code blocks of a page: line, language, text."""
    found: list[tuple[int, str, str]] = []
    languages = ("python", "sql", "console", "json", "yaml", "js")

    def collect(example: Example) -> None:
        found.append((example.line, str(example.region.lexemes["arguments"]).strip(), str(example.parsed)))

    for example in Sybil([CodeBlockParser(each, collect) for each in languages]).parse(page).examples():
        example.evaluate()
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_what_a_page_shows_works(
    page: Path,
    tmp_path: Path,
    database: str,
    connection: "asyncpg.Connection[Any]",
    spawn: Spawn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its blocks run in their order, in one folder, on one database."""
    if page.stem == "enqueue":
        await connection.execute("create table invoices (id bigint primary key)")
    monkeypatch.syspath_prepend(tmp_path)
    running = Page(tmp_path, database, connection, spawn)
    try:
        for line, language, text in blocks(page):
            try:
                await running.run(language, text)
            except BaseException as error:
                error.add_note(f"{page}:{line}")
                raise
    finally:
        running.close()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_what_a_guide_shows_can_be_read(page: Path) -> None:
    """Its Python, JSON and YAML is what it says it is."""
    for line, language, text in blocks(page):
        try:
            read(language, text)
        except Exception as error:
            error.add_note(f"{page}:{line}")
            raise


def test_every_page_is_found() -> None:
    """A page with code that nobody runs would be a page that may lie."""
    assert {"tutorial", "enqueue", "test"} <= {page.stem for page in PAGES}
    assert sum(len(blocks(page)) for page in PAGES) > 30
