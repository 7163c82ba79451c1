"""Print text that may come from strangers: names, errors and payloads of jobs are theirs to choose."""

import typer

#: Control characters, DEL and C1, and those that change the direction of text or end a line in some terminals.
_UNSAFE = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x61C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPED = {code: repr(chr(code))[1:-1] for code in _UNSAFE if chr(code) not in "\n\t"}


def without_escapes(text: str) -> str:
    """Return the text with its control characters spelled out: a terminal would obey them."""
    return text.translate(_ESCAPED)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line to standard output or standard error, without control characters."""
    typer.echo(without_escapes(str(text)), err=err)
