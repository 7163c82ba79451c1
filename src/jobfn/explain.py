"""Explain error codes: the meaning of each, and what to do. ``jobfn explain`` and the page of errors read this.

Errors of the command line and of Python have the code of their class in ``errors.py`` (J101). The answers of functions
and of the callback server have a letter and their HTTP status (F422, C409).
"""

import inspect
from typing import NamedTuple

from jobfn import errors

#: HTTP answers without a class in ``errors.py``: title, meaning and advice by code.
_HTTP_ANSWERS = {
    "F429": (
        "Function is busy",
        (
            "The function runs as many background jobs as JOBFN_MAX_BACKGROUND_JOBS allows. The worker sends the "
            "job again, and the attempt does not count. Raise the limit, or start more instances."
        ),
    ),
    "F500": (
        "Handler failed",
        (
            "The handler raised an exception, whose message is in the answer; the traceback is in the function's "
            "log. The job is retried unless its attempts are used up. Raise PermanentError for failures that no "
            "retry can mend."
        ),
    ),
    "F503": (
        "Function stopped",
        (
            "The process stopped before the handler finished. The job is retried. If it happens during "
            "deployments, give the process more time between SIGTERM and SIGKILL."
        ),
    ),
    "F504": (
        "Handler timed out",
        (
            "The handler took longer than the task's timeout. Raise it with @task(..., timeout=...), or use "
            "background=True for long jobs."
        ),
    ),
    "C400": (
        "Malformed report",
        (
            "A header of the report or its body cannot be read. Return the headers that the job was delivered "
            "with, and send the report to X-Callback-Url as it is."
        ),
    ),
    "C401": (
        "Unauthorized report",
        (
            "The URL has no valid token for this job and attempt, or the token has expired. Report to the "
            "X-Callback-Url of this delivery. If every report fails, JOBS_CALLBACK_SECRET differs between workers "
            "and callback servers."
        ),
    ),
    "C404": ("Unknown path", "Reports go to X-Callback-Url of the job's delivery, with POST."),
    "C405": ("Method not allowed", "Reports go to X-Callback-Url of the job's delivery, with POST."),
    "C409": (
        "Conflict",
        (
            "This worker does not hold this job in this attempt: the job was settled before, cancelled, or taken "
            "over after its lease ended. Nothing was changed. Do not send the report again."
        ),
    ),
    "C500": (
        "Callback server failed",
        ("An unexpected error, whose traceback is in the log of the callback server. Send the report again."),
    ),
    "C503": ("Database unreachable", "The callback server has no connection to its database. Send the report again."),
}


class Explanation(NamedTuple):
    """The explanation of a code.

    Attributes:
        code: The code.
        title: Name of the exception, or of the HTTP answer.
        text: The meaning, and what to do.
        url: Page with more about it.
    """

    code: str
    title: str
    text: str
    url: str


def explanations() -> dict[str, Explanation]:
    """Return the explanations by code."""
    found = {}
    for _, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, errors.JobfnError) and "code" in vars(error):
            text = inspect.cleandoc(error.__doc__ or "").split("\n\nArgs:")[0].split("\n\nAttributes:")[0]
            found[error.code] = Explanation(error.code, error.__name__, text.replace("``", "`"), error.docs_url())
    for code, (title, text) in _HTTP_ANSWERS.items():
        found[code] = Explanation(code, title, text, f"{errors.DOCS_URL}reference/errors/#{code.lower()}")
    return dict(sorted(found.items()))
