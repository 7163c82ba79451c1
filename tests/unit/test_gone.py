"""Clients that have gone."""

import pytest

from jobfn.gone import whoever_is_gone


@pytest.mark.parametrize(
    "error", [OSError(), ConnectionResetError(), RuntimeError("unable to perform operation; the handler is closed")]
)
def test_that_nobody_listens_is_no_error(error: Exception) -> None:
    """Whichever way the event loop says it."""
    with whoever_is_gone():
        raise error


@pytest.mark.parametrize("error", [RuntimeError("Expected ASGI message"), ValueError("closed")])
def test_all_else_is_one(error: Exception) -> None:
    """A mistake of ours is not let go."""
    with pytest.raises(type(error)), whoever_is_gone():
        raise error
