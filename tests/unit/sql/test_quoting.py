"""Quoted names and values have their meaning under PostgreSQL's rules."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfn.errors import ConfigurationError
from jobfn.sql.quoting import quote_body, quote_identifier, quote_literal

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8")) | st.text("'\"\\$;-/*\n e")


@given(TEXT)
def test_literal_is_one_string_with_the_given_text(text: str) -> None:
    literal = quote_literal(text)
    match = re.fullmatch(r"(E?)'((?:[^'\\]|''|\\\\)*)'", literal, re.DOTALL)
    assert match is not None
    is_escape_string, content = match[1] == "E", match[2].replace("''", "'")
    assert (content.replace("\\\\", "\\") if is_escape_string else content) == text
    assert is_escape_string or "\\" not in literal


@given(TEXT.filter(lambda name: 0 < len(name.encode()) <= 63))
def test_identifier_is_one_name(name: str) -> None:
    match = re.fullmatch(r'"((?:[^"]|"")+)"', quote_identifier(name), re.DOTALL)
    assert match is not None
    assert match[1].replace('""', '"') == name


@given(st.lists(st.sampled_from(["$jobfn", "$jobfn1", "$", "\n", "x"])).map("".join) | TEXT)
def test_body_does_not_contain_its_tag(body: str) -> None:
    quoted = quote_body(body)
    tag = quoted.partition("\n")[0]
    assert re.fullmatch(r"\$jobfn\d*\$", tag)
    assert quoted.index(tag, len(tag)) == len(quoted) - len(tag)
    assert quoted == f"{tag}\n{body}\n{tag}"


@pytest.mark.parametrize("name", ["", "x" * 64, "ä" * 32, "a\0b", "\ud800"])
def test_invalid_name_is_rejected(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r".+ is not a name: .+"):
        quote_identifier(name)
    with pytest.raises(ConfigurationError, match=r"JOBS_SCHEMA=.* is not a schema name"):
        quote_identifier(name, what="schema name")


@pytest.mark.parametrize("name", ["information_schema", "pg_catalog", "pg_jobs"])
def test_schema_of_postgresql_is_not_a_jobs_schema(name: str) -> None:
    assert quote_identifier(name) == f'"{name}"'
    with pytest.raises(ConfigurationError, match=r"JOBS_SCHEMA='.+' is reserved by PostgreSQL"):
        quote_identifier(name, what="schema name")


@pytest.mark.parametrize("text", ["a\0b", "\udfff"])
def test_text_that_postgresql_cannot_store_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r".+: .+"):
        quote_literal(text)
