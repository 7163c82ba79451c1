"""Each line that installs jobfn works as written: in the documentation, and in the errors about missing extras."""

import re
import tomllib

import pytest

from jobfn.install import install_command
from support.docs.blocks import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINES = [
    (page.relative_to(ROOT).as_posix(), line)
    for page in PAGES
    for line in re.findall(
        r"(?:pip install|uv add|pipx install|uv pip install) [^\n`]*jobfn[^\n`]*", page.read_text("utf-8")
    )
]


def test_line_for_an_extra_needs_no_package_index_that_has_jobfn() -> None:
    line = "pip install 'jobfn[worker] @ git+https://github.com/constructive-io/jobfn'"
    assert install_command("worker") == line


@pytest.mark.parametrize(("page", "line"), LINES, ids=[page for page, _ in LINES])
def test_page_has_the_line_of_the_errors(page: str, line: str) -> None:
    known = {install_command(extra): extra for extra in EXTRAS}
    assert any(line == each or line.startswith(f"{each} ") for each in known), f"{page}: {line}"


def test_pages_that_start_with_an_installation_have_a_line() -> None:
    assert {page for page, _ in LINES} >= {"README.md", "docs/index.md", "docs/tutorial.md", "docs/mcp.md"}


def test_errors_use_the_line() -> None:
    for path in sorted((ROOT / "src").rglob("*.py")):
        if path.name != "install.py":
            text = path.read_text("utf-8")
            assert "pip install" not in text, path
            for extra in re.findall(r"install_command\([\"'](\w+)", text):
                assert extra in EXTRAS, path


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/tutorial.md"])
def test_page_that_starts_with_an_installation_creates_an_environment(page: str) -> None:
    """Debian's and Homebrew's pip refuse to install packages outside of an environment."""
    before, _, _ = (ROOT / page).read_text("utf-8").partition("pip install")
    assert before.endswith("$ python3 -m venv .venv && . .venv/bin/activate\n$ ")
