"""What a failure's body may say beside the error, and what it may not make of the reader."""

import pytest

from jobfn.wire import Failure


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0),
        ("7.5", 7.5),
        ("-3", 0.0),
        ("1e308", 1e308),
        ("1e999", None),
        ("-1e999", None),
        ("NaN", None),
        ("1" + "0" * 400, None),
        ("-1" + "0" * 400, None),
        ("9" * 5_000, None),
        ("true", None),
        ('"7"', None),
        ("[7]", None),
        ("null", None),
    ],
)
def test_seconds_to_wait(said: str, seconds: float | None) -> None:
    """A finite number, 0 at least; whatever else stands there says nothing, numbers beyond every float included."""
    assert Failure.from_json(b'{"retryAfterSeconds": %s}' % said.encode()).retry_after_seconds == seconds


@pytest.mark.parametrize("depth", [1, 100, 900, 990, 995, 999, 100_000])
def test_an_error_of_any_depth(depth: int) -> None:
    """A nested error becomes text, or, where it is too deep to read, says nothing."""
    text = "[" * depth + "]" * depth
    assert Failure.from_json(b'{"error": %s}' % text.encode()).error in {text, None}
