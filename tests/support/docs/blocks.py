"""Find the code blocks of the documentation and parse the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[3]
#: Languages that ``page.py`` runs or parses. A block in another language, or in none, is an error.
LANGUAGES = ("python", "sql", "console", "yaml", "json", "ndjson", "js", "text")
_FENCE = re.compile(r"^\s*(?:>\s*)?(?:`{3,}|~{3,})(.*)$")
#: Characters of a drawing. Text without them would be code that is not run.
_DRAWING = re.compile("[─│├└▶▲]")
_EXIT_CODE = re.compile(r"#.*exit code (\d+)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Block:
    """One code block."""

    line: int
    language: str
    text: str


@dataclass
class ShellCommand:
    """One command of a terminal session."""

    text: str
    words: list[str]
    variables: dict[str, str]
    output: list[str]
    exit_codes: set[int]


def find_pages() -> list[Path]:
    """Return all Markdown pages with code blocks."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for folder in ("docs", "examples", "templates"):
        pages += (ROOT / folder).rglob("*.md")
    return sorted(page for page in pages if "```" in page.read_text())


def parse_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, including blocks that readers do not see (``invisible-code-block``).

    Raises:
        AssertionError: The language of a block is not supported, a text is not a drawing, or the parser misses a block.
    """
    blocks: list[Block] = []

    def collect(example: Example) -> None:
        language = str(example.region.lexemes["arguments"]).strip()
        blocks.append(Block(example.line, language, str(example.parsed)))

    for example in Sybil([CodeBlockParser(language, collect) for language in LANGUAGES]).parse(page).examples():
        example.evaluate()
    parsed_lines = {block.line for block in blocks}
    for number, language in _opening_fences(page):
        assert language in LANGUAGES, f"{page}:{number}: the language {language!r} is not supported"
        assert number in parsed_lines, f"{page}:{number}: the parser does not find this block"
    for block in blocks:
        is_drawing = block.language != "text" or _DRAWING.search(block.text)
        assert is_drawing, f"{page}:{block.line}: the text is not a drawing: set its language"
    return sorted(blocks, key=lambda block: block.line)


def parse_session(text: str) -> Iterator[ShellCommand]:
    """Yield the commands of a terminal session with their output."""
    command: ShellCommand | None = None
    lines = iter(text.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            assert command is not None, f"the session must start with '$ ': {line!r}"
            if line.strip():
                command.output.append(line)
            continue
        if command is not None:
            yield command
        command_line = line[2:]
        while command_line.endswith("\\"):
            command_line = command_line.removesuffix("\\").rstrip() + " " + next(lines).strip()
        command = _parse_command(command_line)
    if command is not None:
        yield command


def _parse_command(text: str) -> ShellCommand:
    words = shlex.split(text, comments=True)
    variables: dict[str, str] = {}
    while len(words) > 1 and _ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    exit_code = _EXIT_CODE.search(text)
    return ShellCommand(text, words, variables, [], {0, int(exit_code[1])} if exit_code else {0})


def _opening_fences(page: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and language of the opening fences, without the parser."""
    is_open = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is not None:
            is_open = not is_open
            if is_open:
                yield number, fence[1].strip()
