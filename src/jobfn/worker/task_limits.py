"""The option ``max_attempts`` of tasks, for attempts that end without an outcome from their function.

A function applies the option itself, unless a handler kills its process. So functions send it with each response and
list it at their root. The worker asks for the list before a job's second attempt, if no response has named it yet. It
records what it learns, so that people see the limit that holds.
"""

import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from jobfn.wire import MAX_ATTEMPTS
from jobfn.worker.batching import remember

#: TTL of the answer about a task.
TTL_SECONDS: Final = 60.0
LIST_TIMEOUT_SECONDS: Final = 2.0
_MAX_DIGITS: Final = 9


class TaskLimits:
    """What is known about the limits of tasks.

    Args:
        fetch: Returns the body of a function app's list, at a URL; empty if there is none.
        clock: Monotonic time in seconds.
        on_learned: Called with a task and its limit, None for none, when it is learned or has changed.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[bytes]],
        clock: Callable[[], float],
        on_learned: Callable[[str, int | None], None] = lambda _task, _limit: None,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._on_learned = on_learned
        self._known: dict[str, tuple[int | None, float]] = {}

    def record_response(self, task: str, headers: Mapping[str, str]) -> None:
        """Record the limit that a response names."""
        text = headers.get(MAX_ATTEMPTS)
        known, _ = self._known.get(task, (0, 0.0))
        if text is None and known is None:
            return
        limit = None if text is None else _parse(text)
        self._remember(task, limit)
        if limit != known:
            self._on_learned(task, limit)

    def is_last(self, task: str, attempt: int) -> bool:
        """Return whether the task allows no attempt after this one, as far as is known."""
        limit, _ = self._known.get(task, (None, 0.0))
        return limit is not None and attempt >= limit

    async def learn(self, task: str, index_url: str) -> None:
        """Ask a function app for the limit of its task, unless it is known or was asked for lately."""
        limit, asked_at = self._known.get(task, (None, -TTL_SECONDS))
        if limit is not None or self._clock() - asked_at < TTL_SECONDS:
            return
        self._remember(task, None)  # so that jobs that start now do not ask as well
        listed = _listed_limit(await self._fetch(index_url), task)
        self._remember(task, listed)
        if listed is not None:
            self._on_learned(task, listed)

    def _remember(self, task: str, limit: int | None) -> None:
        remember(self._known, task, (limit, self._clock()))


async def fetch_list(url: str) -> bytes:
    """Return what a function app lists at a URL; empty if it does not respond with 200 in time."""
    import httpx  # noqa: PLC0415  - for retries only

    from jobfn.http.bounded import MAX_LIST_BYTES, request  # noqa: PLC0415  - imports httpx

    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await request(client, "GET", url, timeout_seconds=LIST_TIMEOUT_SECONDS, max_bytes=MAX_LIST_BYTES)
            return response.body if response.status == 200 else b""
    return b""


def _listed_limit(body: bytes, task: str) -> int | None:
    """Return the limit of a task in a list, which may be any document."""
    listed: Any
    try:
        listed = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return None
    tasks = listed.get("tasks") if isinstance(listed, dict) else None
    for entry in tasks if isinstance(tasks, list) else []:
        if isinstance(entry, dict) and entry.get("identifier") == task:
            return _parse(str(entry.get("max_attempts")))
    return None


def _parse(text: str) -> int | None:
    if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS:
        return int(text) or None
    return None
