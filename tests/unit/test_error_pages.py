"""Errors name the page that explains them."""

import inspect
import traceback
from pathlib import Path

import pytest

from jobfn import errors
from jobfn.cli.app import _told

DOCS = Path(__file__).parents[2] / "docs"
ERRORS = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.JobfnError)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_each_error_s_page_is_there(error: type[errors.JobfnError]) -> None:
    """A page of its own that exists, or its place in the list of errors, which is made of the same classes."""
    if error.page is not None:
        is_generated = error.page.startswith("reference/")
        assert is_generated or (DOCS / f"{error.page}.md").is_file()
        assert error.docs_url() == f"{errors.DOCS}{error.page}/"
    else:
        assert error.docs_url() == f"{errors.DOCS}reference/errors/#{error.__name__.lower()}"


def test_a_traceback_and_a_terminal_show_it() -> None:
    """Below the text, which stays as it is; a command that is not in a terminal says one line."""
    error = errors.EnqueueError("no")
    assert str(error) == "no"
    assert not hasattr(errors.PermanentError("a handler's own word"), "__notes__")
    assert f"docs: {errors.DOCS}how-to/enqueue/" in "".join(traceback.format_exception(error))
    assert _told(error, with_page=False) == "jobfn: no\n"
    assert _told(error, with_page=True) == f"jobfn: no\n       {errors.DOCS}how-to/enqueue/\n"
