"""Check prose for phrases that are not plain English: comments, docstrings, strings, pages, SQL comments, help texts.

Run it with ``python tools/prose_check.py [FILE ...]``; without arguments it checks all files in git. It prints
``file:line: phrase: advice`` and exits with 1 if there are any. A comment ``prose: allow`` on the same line or on the
line before permits a phrase. Phrases that span two lines are not found.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ALLOW_MARKER: Final = "prose: allow"
#: Files that contain the phrases on purpose.
EXCLUDED: Final = frozenset({"tools/prose_check.py", "tests/unit/test_prose_check.py"})
#: Lines with comments or string literals. In other text files every line is prose.
_LINE_TESTS: Final = {".sql": re.compile(r"--|'"), ".js": re.compile(r"^\s*(?://|\*|/\*)")}
_SUFFIXES: Final = frozenset({".py", ".sql", ".js", ".md", ".html", ".yaml", ".yml", ".toml"})

_BE: Final = r"\b(?:is|are|was|were|be|been)"
#: Verbs after which "What" or "That" at the beginning of a sentence is a question or a pronoun.
_NOT_A_CLAUSE: Final = r"(?!(?:is|are|does|do|if|happens|to)\b)"


@dataclass(frozen=True)
class Rule:
    """A pattern, and what to write instead."""

    pattern: re.Pattern[str]
    advice: str


def _rule(pattern: str, advice: str, *, case_sensitive: bool = False) -> Rule:
    return Rule(re.compile(pattern, 0 if case_sensitive else re.IGNORECASE), advice)


RULES: Final = (
    _rule(rf"(?<!there ){_BE} no (?!longer\b|more than\b)\w+", 'write "is not a ..." or "there is no ..."'),
    _rule(rf"(?<!there ){_BE} (?-i:none)\b", 'write "there is none" or "is not a ..."'),
    _rule(r"\bso (?:long|many|much) (?:as )?(?:is|are|was|were|may)\b", 'write "Maximum ..." or "Timeout ..."'),
    _rule(
        r"^\W*So (?:long|many|much)\b(?! (?:is|are|was|were|may)\b)",
        'write "Maximum ..." or "Timeout ..."',
        case_sensitive=True,
    ),
    _rule(r"\bfor good\b", 'write "permanently"'),
    _rule(r"\b(?:as|for) ever\b", 'write "as before", "always" or "never"'),
    _rule(r"\bsigns? of life\b", 'write "heartbeat"'),
    _rule(r"\b(?:in hand|under way|at work)\b", 'write "in flight" or "running"'),
    _rule(r"\bg(?:ive|ives|iven|iving|ave) back\b", 'write "release" or "return"'),
    _rule(r"\bt(?:ake|akes|aken|aking|ook) back\b", 'write "reclaim"'),
    _rule(r"\blet(?:s|ting)? go\b", 'write "release", "drain" or "skip"'),
    _rule(rf"{_BE} (?:told|heard|said)\b", "name the event: reported, acknowledged, logged"),
    _rule(r"\b(?:told of|says? so|said so)\b", "name the event or the message"),
    _rule(r"\bwh(?:o|om)ever\b", 'write "the caller", "anyone who" or the role'),
    _rule(r"\bof (?:its|theirs|ours|yours|his) own\b", 'write "separate" or "own"'),
    _rule(rf"^\W*(?:Who|Whose|What|That) {_NOT_A_CLAUSE}\w+", "begin with the subject", case_sensitive=True),
)


def prose_lines(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that people read."""
    if path.suffix == ".py":
        yield from _python_lines(text)
        return
    has_prose = _LINE_TESTS.get(path.suffix, re.compile(""))
    for number, line in enumerate(text.splitlines(), 1):
        if has_prose.search(line):
            yield number, line


def _python_lines(text: str) -> Iterator[tuple[int, str]]:
    prose = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in prose:
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line


def check(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, phrase and advice for each phrase in a file."""
    lines = ["", *text.splitlines()]
    for number, line in prose_lines(path, text):
        if ALLOW_MARKER in lines[number] or ALLOW_MARKER in lines[number - 1]:
            continue
        for rule in RULES:
            for match in rule.pattern.finditer(line):
                yield number, match[0].strip(), rule.advice


def main(arguments: list[str]) -> int:
    """Check files and return the exit code."""
    names = arguments or subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    missing = [name for name in arguments if not Path(name).is_file()]
    if missing:
        print(f"no file {', '.join(missing)}: pass the files to check", file=sys.stderr)
        return 2
    count = 0
    for name in names:
        path = Path(name)
        if path.suffix in _SUFFIXES and name not in EXCLUDED and path.is_file():
            for number, phrase, advice in check(path, path.read_text("utf-8")):
                count += 1
                print(f"{name}:{number}: {phrase!r}: {advice}")
    if count:
        print(f"{count} phrases are not plain English: rewrite them, or mark the line with `{ALLOW_MARKER}`")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
