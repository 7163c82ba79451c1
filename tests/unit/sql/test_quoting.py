"""Quoting, as text: what goes in comes out again under PostgreSQL's reading rules, and nothing is left over."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfn.errors import ConfigurationError
from jobfn.sql.quoting import quote_body, quote_identifier, quote_literal

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
HOSTILE = TEXT | st.text("'\"\\$;-/*\n e")


@given(HOSTILE)
def test_a_literal_is_one_string_whatever_backslashes_mean(text: str) -> None:
    """Undoing doubled quotes, and doubled backslashes in an E string, gives the text; other strings have none."""
    literal = quote_literal(text)
    match = re.fullmatch(r"(E?)'((?:[^'\\]|''|\\\\)*)'", literal, re.DOTALL)
    assert match is not None
    inner = match[2].replace("''", "'")
    assert (inner.replace("\\\\", "\\") if match[1] else inner) == text
    assert match[1] or "\\" not in literal


@given(HOSTILE.filter(lambda name: 0 < len(name.encode()) <= 63))
def test_an_identifier_is_one_name(name: str) -> None:
    """Read with doubled double quotes undone, it is the name."""
    match = re.fullmatch(r'"((?:[^"]|"")+)"', quote_identifier(name), re.DOTALL)
    assert match is not None
    assert match[1].replace('""', '"') == name


@given(st.lists(st.sampled_from(["$jobfn", "$jobfn1", "$", "\n", "x"])).map("".join) | HOSTILE)
def test_a_body_ends_where_it_should(body: str) -> None:
    """The tag that opens a body is found again at its end and nowhere before."""
    quoted = quote_body(body)
    tag = quoted.partition("\n")[0]
    assert re.fullmatch(r"\$jobfn\d*\$", tag)
    assert quoted.index(tag, len(tag)) == len(quoted) - len(tag)
    assert quoted == f"{tag}\n{body}\n{tag}"


@pytest.mark.parametrize("name", ["", "x" * 64, "ä" * 32, "a\0b", "\ud800"])
def test_there_are_no_such_names(name: str) -> None:
    """PostgreSQL would cut or refuse them."""
    with pytest.raises(ConfigurationError, match=r".+ is not a name: .+"):
        quote_identifier(name)


@pytest.mark.parametrize("text", ["a\0b", "\udfff"])
def test_there_is_no_such_text(text: str) -> None:
    """No PostgreSQL can hold it."""
    with pytest.raises(ValueError, match=r".+: .+"):
        quote_literal(text)
