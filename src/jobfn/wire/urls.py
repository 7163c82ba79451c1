"""URLs of deliveries and reports, and their redacted form for logs."""

import functools
import re
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from jobfn.wire.dns_names import dns_name
from jobfn.wire.names import CALLBACK_URL, CANCEL_PATH_SUFFIX

#: Maximum length of a URL that reports go to.
MAX_URL_CHARACTERS: Final = 8192
#: Characters that RFC 3986 allows in a path or query, and "%", so that encoded text is not encoded again.
_URL_SAFE: Final = "%/?:@!$&'()*+,;=-._~"
#: Placeholder for the task in a base URL.
TASK_PLACEHOLDER: Final = "{task}"
_AFTER_HOST: Final = re.compile("[/?#]")
#: Characters of host, port and credentials that a request line and a Host header can carry.
_HOST: Final = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:@\[\]-]+")
#: Parameters in a query. A template may have added ``/callback`` to it.
_PARAMETERS: Final = {name: re.compile(rf"(?:^|&){name}=([^&/]*)") for name in ("attempt", "token", "worker")}


def cancel_url(url: str) -> str:
    """Return the URL at which the function of a task looks whether one of its accepted jobs was cancelled."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + CANCEL_PATH_SUFFIX).geturl()


@functools.lru_cache(maxsize=128)  # all jobs of a worker have the same URL, unless it is signed
def report_url(callback_url: str) -> str:
    """Return the URL that a report is sent to.

    The path ``/callback`` is added to a callback URL without a path. Percent-encoded text is kept; characters that a
    request line cannot carry are encoded.

    Raises:
        ValueError: This is not an absolute http or https URL, or it has more than ``MAX_URL_CHARACTERS``.
    """
    if len(callback_url) > MAX_URL_CHARACTERS:
        raise ValueError(f"{CALLBACK_URL} must have at most {MAX_URL_CHARACTERS} characters")
    problem = f"{CALLBACK_URL} must be an absolute http(s) URL such as http://jobs-callback:12345/callback"
    try:
        parts = urlsplit(callback_url)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # invalid port or IPv6 address
        raise ValueError(problem) from error
    if not is_valid or not _HOST.fullmatch(parts.netloc):
        raise ValueError(problem)
    path = "/callback" if parts.path in {"", "/"} else quote(parts.path, safe=_URL_SAFE)
    return urlunsplit((parts.scheme, parts.netloc, path, quote(parts.query, safe=_URL_SAFE), ""))


def attempt_url(callback_url: str, attempt: int) -> str:
    """Return the callback URL with an attempt in its query, so that each attempt reports to its own URL.

    The path stays, because the platform's callback server knows only ``/callback``. The URL ends in ``/callback``,
    because the platform's Python template adds that to all others (contract, section 2).
    """
    return f"{query_prefix(callback_url)}attempt={attempt}&/callback"


def query_prefix(url: str) -> str:
    """Return the URL, which has no fragment, up to where the next parameter of its query begins."""
    return f"{url}{'&' if '?' in url else '?'}"


def query_parameter(query: str, name: str) -> str | None:
    """Return ``attempt``, ``token`` or ``worker`` in the query of a callback URL, as text; None if it has none."""
    match = _PARAMETERS[name].search(query)
    return None if match is None else unquote(match[1])


def sibling_url(url: str, name: str) -> str:
    """Return the URL with its last path segment replaced."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}"))


def redact_url(url: str) -> str:
    """Return the URL without credentials, tokens and query, for logs and ``jobs.last_error``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    query = "…" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def task_url(base_url: str, task_identifier: str) -> str:
    """Return the URL that a task is delivered to: ``{base_url}/{task}``, or the base URL with its placeholder filled.

    In the host, the placeholder becomes the task's DNS name (``dns_names.py``). Elsewhere it becomes the identifier as
    one percent-encoded path segment, in which ``/`` becomes ``%2F`` and ``:`` is kept. ``.`` and ``..``, which no
    function has, are encoded twice, because servers and proxies resolve them as paths.
    """
    encoded = quote(task_identifier, safe=":@!$&'()*+,;=-._~")
    if encoded in {".", ".."}:
        encoded = encoded.replace(".", "%252E")
    if TASK_PLACEHOLDER not in base_url:
        return f"{base_url.rstrip('/')}/{encoded}"
    host, rest = _split_after_host(base_url)
    return host.replace(TASK_PLACEHOLDER, dns_name(task_identifier)) + rest.replace(TASK_PLACEHOLDER, encoded)


def has_host_per_task(base_url: str) -> bool:
    """Return whether each task has a host: ``http://{task}.jobs.svc.cluster.local``."""
    return TASK_PLACEHOLDER in _split_after_host(base_url)[0]


def _split_after_host(url: str) -> tuple[str, str]:
    """Split a URL before its path. ``urlsplit`` cannot do it, because the URL may contain braces."""
    end = _AFTER_HOST.search(url, url.index("://") + 3)
    return (url, "") if end is None else (url[: end.start()], url[end.start() :])
