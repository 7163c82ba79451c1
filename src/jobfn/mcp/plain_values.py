"""Convert values of ``jobfn.operations`` to JSON types that an assistant can read.

Names, errors, progress messages and payloads are chosen by those who enqueue and by handlers. They are cut, and
characters that a person does not see are spelled out, so that a text which a person reviews is the text that an
assistant reads.
"""

import dataclasses
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from jobfn.mcp.limits import MAX_LISTED_CHARACTERS


def visible(text: str, max_characters: int = MAX_LISTED_CHARACTERS) -> str:
    """Return a text without invisible characters, such as control, zero-width and tag characters, at a maximum length.

    What is cut is counted at the end.
    """
    rest = len(text) - max_characters
    text = text[:max_characters]  # of an enum's member, too, this is a string
    if not text.isprintable():
        text = "".join(each if each.isprintable() or each in "\n\t" else repr(each)[1:-1] for each in text)
    return f"{text} [{rest:,} more characters]" if rest > 0 else text


def plain(value: Any, max_characters: int = MAX_LISTED_CHARACTERS, *, without: Collection[str] = ()) -> Any:
    """Return a value as JSON types: times in UTC, and objects without the fields that have no value.

    Args:
        value: A value.
        max_characters: Maximum length of each text.
        without: Names of fields to leave out, at every level.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {
            visible(str(name)): plain(each, max_characters, without=without)
            for name, each in value.items()
            if each is not None and name not in without
        }
    if isinstance(value, list | tuple):
        return [plain(each, max_characters, without=without) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    return visible(value, max_characters) if isinstance(value, str) else value


def limited(name: str, values: Sequence[Any], maximum: int, max_characters: int = MAX_LISTED_CHARACTERS) -> Any:
    """Return the first values under a name, and how many more there are."""
    more = {f"more_{name}": len(values) - maximum} if len(values) > maximum else {}
    return {name: plain(values[:maximum], max_characters), **more}
