"""Errors of connections say why."""

import pytest

from jobfn.database.connection import error_text, translate_errors
from jobfn.errors import DatabaseUnreachable


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "no response in time"),  # a proxy that accepts connections and forwards nothing
        (TimeoutError("the server sent nothing"), "the server sent nothing"),
        (ConnectionResetError(), "ConnectionResetError"),
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
    ],
)
def test_error_without_a_text_still_has_a_reason(error: Exception, text: str) -> None:
    assert error_text(error) == text
    with pytest.raises(DatabaseUnreachable) as raised, translate_errors("postgresql://db/shop"):
        raise error
    assert str(raised.value) == f"postgresql://db/shop cannot be reached: {text}. Is PostgreSQL running there?"
