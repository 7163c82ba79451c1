import inspect
import traceback
from pathlib import Path

import pytest

from jobfn import errors
from jobfn.cli.app import _format_error

DOCS = Path(__file__).parents[2] / "docs"
CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.JobfnError)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_documentation_page_of_each_error_exists(error: type[errors.JobfnError]) -> None:
    if error.page is not None and not error.page.startswith("reference/"):  # the reference is generated
        assert (DOCS / f"{error.page}.md").is_file()


def test_docs_url_is_the_error_s_page_or_its_entry_in_the_reference() -> None:
    base = "https://constructive-io.github.io/jobfn/"
    assert errors.EnqueueError.docs_url() == f"{base}how-to/enqueue/"
    assert errors.PermanentError.docs_url() == f"{base}reference/errors/#permanenterror"


def test_traceback_and_terminal_show_the_page_below_the_message() -> None:
    error = errors.EnqueueError("no")
    url = "https://constructive-io.github.io/jobfn/how-to/enqueue/"
    assert str(error) == "no"
    assert f"docs: {url}" in "".join(traceback.format_exception(error))
    assert _format_error(error, with_docs_url=False) == "jobfn: no [J106]\n"
    assert _format_error(error, with_docs_url=True) == f"jobfn: no [J106]\n       {url}\n"


def test_errors_without_a_page_have_no_note() -> None:
    assert not hasattr(errors.PermanentError("a handler's message"), "__notes__")
