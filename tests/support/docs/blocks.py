"""The code blocks of the documentation: where they stand, what language they are in, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[3]
#: What somebody runs or reads in ``page.py``. A block in another language, or in none, is an error.
LANGUAGES = ("python", "sql", "console", "yaml", "json", "js", "text")
_FENCE = re.compile(r"^\s*(?:>\s*)?(?:`{3,}|~{3,})(.*)$")
#: What makes a block of text a drawing. Anything else in one would be code that nobody runs.
_DRAWN = re.compile("[─│├└▶▲]")
_EXIT_CODE = re.compile(r"#.*exit code (\d+)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        line: Where it begins.
        language: What its fence says.
        text: What is in it.
    """

    line: int
    language: str
    text: str


@dataclass
class Line:
    """One command of a terminal session.

    Attributes:
        text: As it is typed, on one line.
        words: Its program and arguments, without what is set for it alone.
        variables: What is set for it alone.
        prints: The lines that it is shown to print.
        codes: With what it may end.
    """

    text: str
    words: list[str]
    variables: dict[str, str]
    prints: list[str]
    codes: set[int]


def pages() -> list[Path]:
    """Every page of Markdown that a reader may try something from."""
    written = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return sorted({*written, *(ROOT / "examples").rglob("*.md"), *(ROOT / "templates").rglob("*.md")})


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, those that readers do not see (``invisible-code-block``) included.

    Raises:
        AssertionError: One is in no language that is run or read, is no drawing, or is not found by the parser.
    """
    found: list[Block] = []

    def collect(example: Example) -> None:
        language = str(example.region.lexemes["arguments"]).strip()
        found.append(Block(example.line, language, str(example.parsed)))

    for example in Sybil([CodeBlockParser(each, collect) for each in LANGUAGES]).parse(page).examples():
        example.evaluate()
    seen = {block.line for block in found}
    for number, language in _fences(page):
        assert language in LANGUAGES, f"{page}:{number}: a block in {language or 'no language'}, which nobody runs"
        assert number in seen, f"{page}:{number}: a block that the parser does not find, so that nobody runs it"
    for block in found:
        drawn = block.language != "text" or _DRAWN.search(block.text)
        assert drawn, f"{page}:{block.line}: text that is no drawing: say what language it is in"
    return sorted(found, key=lambda block: block.line)


def session(text: str) -> Iterator[Line]:
    """The commands of a terminal session, each with what it is shown to print."""
    current: Line | None = None
    lines = iter(text.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            assert current is not None, f"output before the first command, or a command without '$ ': {line!r}"
            if line.strip():
                current.prints.append(line)
            continue
        if current is not None:
            yield current
        typed = line[2:]
        while typed.endswith("\\"):
            typed = typed.removesuffix("\\").rstrip() + " " + next(lines).strip()
        current = _line(typed)
    if current is not None:
        yield current


def _line(typed: str) -> Line:
    words = shlex.split(typed, comments=True)
    variables: dict[str, str] = {}
    while len(words) > 1 and _ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    told = _EXIT_CODE.search(typed)
    return Line(typed, words, variables, [], {0, int(told[1])} if told else {0})


def _fences(page: Path) -> Iterator[tuple[int, str]]:
    """The opening fences, by a look at the lines alone."""
    is_open = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is not None:
            is_open = not is_open
            if is_open:
                yield number, fence[1].strip()
