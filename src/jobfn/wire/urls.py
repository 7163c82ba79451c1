"""Where deliveries and reports go, and how an address may be shown."""

import functools
import re
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from jobfn.wire.dns_names import dns_name
from jobfn.wire.names import CALLBACK_URL

#: What RFC 3986 allows in a path or query, "%" included: text that is already encoded is left alone.
_URL_SAFE: Final = "%/?:@!$&'()*+,;=-._~"
#: Stands in a base URL for the task.
TASK_PLACEHOLDER: Final = "{task}"
_AFTER_HOST: Final = re.compile("[/?#]")
#: Host, port and user as a request line and a Host header can carry them.
_HOST: Final = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:@\[\]-]+")
#: A path segment that opens a callback URL to whoever knows it (worker/tokens.py): payload, time and signature.
_TOKEN: Final = re.compile(r"\.?[\w-]+\.[\w-]+\.[\w-]{20,}", re.ASCII)


@functools.lru_cache(maxsize=128)  # the same one with each job of a worker, where it is not signed
def report_url(callback_url: str) -> str:
    """Where a report goes: a callback URL without a path means ``/callback``, any other is kept as it is.

    What is already percent-encoded stays; characters that no request line can hold are encoded.

    Raises:
        ValueError: It is no absolute http or https URL.
    """
    problem = f"{CALLBACK_URL} must be an absolute http(s) URL such as http://jobs-callback:12345/callback"
    try:
        parts = urlsplit(callback_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # a port or an IPv6 address that is none
        raise ValueError(problem) from error
    if not usable or not _HOST.fullmatch(parts.netloc):
        raise ValueError(problem)
    path = "/callback" if parts.path in {"", "/"} else quote(parts.path, safe=_URL_SAFE)
    return urlunsplit((parts.scheme, parts.netloc, path, quote(parts.query, safe=_URL_SAFE), ""))


def sibling_url(url: str, name: str) -> str:
    """The URL beside another one: its last path segment replaced."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}"))


def redact_url(url: str) -> str:
    """A URL as it may stand in a log and in ``jobs.last_error``: without a user and password, a token, or a query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that is none"
    path = "/".join("…" if _TOKEN.fullmatch(segment) else segment for segment in parts.path.split("/"))
    query = "…" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, query, ""))


def task_url(base_url: str, task_identifier: str) -> str:
    """The URL that delivers a task: ``{base_url}/{task}``, or ``{task}`` filled in where the URL holds it.

    In the host it is the task's DNS name (``dns_names.py``); elsewhere the identifier, percent-encoded as one path
    segment, in which ``:`` stays readable and ``/`` becomes ``%2F``.
    """
    encoded = quote(task_identifier, safe=":@!$&'()*+,;=-._~")
    if TASK_PLACEHOLDER not in base_url:
        return f"{base_url.rstrip('/')}/{encoded}"
    host, rest = _host_and_rest(base_url)
    return host.replace(TASK_PLACEHOLDER, dns_name(task_identifier)) + rest.replace(TASK_PLACEHOLDER, encoded)


def has_host_per_task(base_url: str) -> bool:
    """Whether the tasks of this base URL live on hosts of their own: ``http://{task}.jobs.svc.cluster.local``."""
    return TASK_PLACEHOLDER in _host_and_rest(base_url)[0]


def _host_and_rest(url: str) -> tuple[str, str]:
    """What stands before the path, and the path with all behind it; the URL may hold braces."""
    end = _AFTER_HOST.search(url, url.index("://") + 3)
    return (url, "") if end is None else (url[: end.start()], url[end.start() :])
