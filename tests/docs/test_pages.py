"""Run every code block of the documentation in the order of its page: Python, SQL, blueprints, terminal sessions.

A block whose first line is a comment with a file name (``# functions.py``) becomes that file. ``dsn`` and
``connection`` are the page's own database. ``support.docs.fixtures`` creates what a page expects, and
``support.docs.skips`` lists commands that are checked instead of run.
"""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support.commands import Spawn
from support.docs.blocks import ROOT, find_pages, parse_blocks
from support.docs.fixtures import prepare_page
from support.docs.page import PageEnvironment, PageRunner


@pytest.mark.parametrize("page", find_pages(), ids=lambda page: str(page.relative_to(ROOT)).removesuffix(".md"))
async def test_page_blocks_run_and_print_their_output(
    page: Path,
    tmp_path: Path,
    database: str,
    connection: "asyncpg.Connection[Any]",
    spawn: Spawn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = PageEnvironment(tmp_path, database, connection, spawn)
    await prepare_page(page, environment)
    monkeypatch.syspath_prepend(environment.folder)
    runner = PageRunner(environment)
    try:
        for block in parse_blocks(page):
            try:
                await runner.run(block)
            except BaseException as error:
                error.add_note(f"{page}:{block.line}")
                raise
    finally:
        runner.close()
        for role in environment.roles:
            await connection.execute(f"drop owned by {role}; drop role {role}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```\n$ ls\n```\n", "language '' is not supported"),
        ("```bash\nls\n```\n", "language 'bash' is not supported"),
        ("~~~sh\nls\n~~~\n", "language 'sh' is not supported"),
        ("- a list\n\n  ```ruby\n  1\n  ```\n", "language 'ruby' is not supported"),
        ("```text\n$ jobfn dev functions.py\n```\n", "the text is not a drawing"),
    ],
)
def test_block_that_would_not_run_is_rejected(text: str, error: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=error):
        parse_blocks(page)
