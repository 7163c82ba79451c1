"""Every code block of the documentation, run in its page's order: Python, SQL, blueprints, and what is typed.

A block whose first line is a comment with a file's name (``# functions.py``) is that file. ``dsn`` and ``connection``
are the page's own database. ``fixtures.py`` makes what a page takes for granted, and ``skips.py`` is the
one list of what is looked at instead of run, each with the reason.
"""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support.commands import Spawn
from support.docs.blocks import ROOT, blocks, pages, session
from support.docs.fixtures import STAGES, prepare
from support.docs.page import PROGRAMS, Page, Stage
from support.docs.skips import ELSEWHERE

PAGES = [page for page in pages() if "```" in page.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)).removesuffix(".md"))
async def test_what_a_page_shows_works(
    page: Path,
    tmp_path: Path,
    database: str,
    connection: "asyncpg.Connection[Any]",
    spawn: Spawn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its blocks run in their order, in one folder, on one database, and print what is shown."""
    stage = Stage(tmp_path, database, connection, spawn)
    await prepare(page, stage)
    monkeypatch.syspath_prepend(stage.folder)
    running = Page(stage)
    try:
        for block in blocks(page):
            try:
                await running.run(block)
            except BaseException as error:
                error.add_note(f"{page}:{block.line}")
                raise
    finally:
        running.close()
        for role in stage.roles:
            await connection.execute(f"drop owned by {role}; drop role {role}")


def test_every_page_is_found() -> None:
    """A page with code that nobody runs would be a page that may lie."""
    found = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "docs/tutorial.md", "docs/how-to/enqueue.md", "docs/operations.md"} <= found
    assert set(STAGES) <= found
    assert sum(len(blocks(page)) for page in PAGES) > 80


def test_the_list_of_what_is_not_run_has_nothing_too_much() -> None:
    """Each entry is used by some page, says why, and takes nothing from what is run."""
    typed = [
        " ".join(line.words).replace(".venv/bin/", "")
        for page in PAGES
        for block in blocks(page)
        if block.language == "console"
        for line in session(block.text)
    ]
    for begins, (reason, _check) in ELSEWHERE.items():
        assert any(command.startswith(begins) for command in typed), f"no page shows {begins}"
        assert reason
        assert begins not in PROGRAMS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```\n$ ls\n```\n", "in no language"),
        ("```bash\nls\n```\n", "in bash, which nobody runs"),
        ("~~~sh\nls\n~~~\n", "in sh, which nobody runs"),
        ("- a list\n\n  ```ruby\n  1\n  ```\n", "in ruby, which nobody runs"),
        ("```text\n$ jobfn dev functions.py\n```\n", "text that is no drawing"),
    ],
)
def test_a_block_that_nobody_would_run_is_an_error(text: str, told: str, tmp_path: Path) -> None:
    """No language, one that nobody runs, and code that is dressed up as a drawing."""
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=told):
        blocks(page)
