"""The text of a traceback that a function sends with a failure."""

import json
import re
from collections.abc import Callable

import pytest

from jobfn.function.tracebacks import MAX_TRACEBACK_BYTES, format_traceback


def raised_by(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001  - any that the test raises
        return error
    raise AssertionError("it raised nothing")


def charge() -> None:
    card = "4111-1111"
    raise ValueError(f"declined: {card}")


def charge_wrapped() -> None:
    try:
        charge()
    except ValueError as error:
        raise RuntimeError("payment failed") from error


def test_it_names_the_lines_of_code_and_ends_with_the_message_of_today() -> None:
    lines = format_traceback(raised_by(charge)).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert re.fullmatch(r'  File ".*/test_tracebacks.py", line \d+, in charge', lines[-3])
    assert lines[-2:] == ['    raise ValueError(f"declined: {card}")', "ValueError: declined: 4111-1111"]


def test_of_a_cause_only_the_type_is_sent() -> None:
    """The message of the cause is not part of the failure's message, and may quote the payload."""
    text = format_traceback(raised_by(charge_wrapped))
    assert "4111-1111" not in text
    assert "\nValueError\n\nThe above exception was the direct cause of the following exception:\n\n" in text
    assert text.endswith("\nRuntimeError: payment failed")


def test_exceptions_of_a_group_are_listed() -> None:
    def fail() -> None:
        raise ExceptionGroup("two", [raised_by(charge), KeyError("id")])

    text = format_traceback(raised_by(fail))
    assert text.count("in charge\n") == 1
    assert text.endswith("\nExceptionGroup: two (2 sub-exceptions): ValueError: declined: 4111-1111; KeyError: 'id'")


def test_a_long_one_keeps_its_end() -> None:
    def ping(depth: int) -> None:
        pong(depth)

    def pong(depth: int) -> None:
        if depth == 0:
            raise RuntimeError("日" * 3000)
        ping(depth - 1)

    def fail() -> None:
        try:
            ping(200)
        finally:
            ping(200)

    text = format_traceback(raised_by(fail))
    assert 16_000 < len(json.dumps(text)) - 2 <= MAX_TRACEBACK_BYTES == 16_384
    assert text.startswith("… (truncated)\n")
    assert text.endswith(', in pong\n    raise RuntimeError("日" * 3000)\nRuntimeError: ' + "日" * 1000)


@pytest.mark.parametrize("message", ["a\0b", "\ud800"])
def test_it_can_be_stored(message: str) -> None:
    def fail() -> None:
        raise ValueError(message)

    text = format_traceback(raised_by(fail))
    assert "\0" not in text
    text.encode()


def test_a_deep_recursion_is_short() -> None:
    def recurse() -> None:
        recurse()

    text = format_traceback(raised_by(recurse))
    assert "more times]" in text
    assert len(text) < 4000


def test_chain_of_causes_is_bounded() -> None:
    error = ValueError("first")
    for _ in range(500):
        following = ValueError("next")
        following.__cause__ = error
        error = following
    assert format_traceback(error).count("ValueError") == 10
