"""Discover the tasks of function apps, and their payload schemas.

A function app lists its tasks at its root (``Routes.index_url``). Tasks of other HTTP services are not listed; their
payloads are edited as JSON.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from pydantic import BaseModel, Field, ValidationError

from jobfn.errors import error_text
from jobfn.http.bounded import MAX_LIST_BYTES, request
from jobfn.wire import redact_url
from jobfn.worker.routes import Routes

#: TTL of a list; short, so that ``jobfn dev`` shows a saved file soon.
CACHE_TTL_SECONDS: Final = 2.0
TIMEOUT_SECONDS: Final = 3.0
#: Maximum number of lists in the cache: with a host per task, each task that a visitor names has its own.
MAX_CACHED_LISTS: Final = 100


class ListedTask(BaseModel):
    """A task that a function app lists."""

    identifier: str
    description: str = ""
    payload: dict[str, Any] = Field(default_factory=dict)


class _TaskList(BaseModel):
    tasks: list[ListedTask]


@dataclass(frozen=True, slots=True)
class Listing:
    """The tasks of several function apps."""

    tasks: Mapping[str, ListedTask] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class TaskDiscovery:
    """Fetches and caches the task lists of function apps."""

    def __init__(
        self,
        routes: Routes | None,
        *,
        client: httpx.AsyncClient | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self._now = now
        self._cache: dict[str, tuple[float, _TaskList | str]] = {}

    async def aclose(self) -> None:
        """Close the HTTP client."""
        await self._client.aclose()

    async def list_tasks(self) -> Listing:
        """Return the tasks of the function apps that are known without a task."""
        if self._routes is None:
            return Listing()
        return _merge(await asyncio.gather(*(self._fetch_own(url) for url in self._routes.index_urls)))

    async def find_task(self, task: str) -> tuple[ListedTask | None, tuple[str, ...]]:
        """Return a task; or None, and a message about each URL that was tried."""
        listing = await self.list_tasks()
        problems = listing.problems
        if self._routes is not None and task not in listing.tasks:
            index_url = self._routes.index_url(task)
            own = _merge([await self._fetch_own(index_url)])
            listing = Listing({**listing.tasks, **own.tasks})
            problems = (*problems, *own.problems) or (f"{redact_url(index_url)} does not list it",)
        listed = listing.tasks.get(task)
        return listed, () if listed is not None else tuple(dict.fromkeys(problems))

    async def _fetch_own(self, url: str) -> _TaskList | str:
        """Return the tasks at a URL whose jobs go to that app; or an error message.

        An app must not describe the tasks of another one.
        """
        result = await self._fetch_cached(url)
        if isinstance(result, str) or self._routes is None:
            return result
        return _TaskList(tasks=[task for task in result.tasks if self._routes.index_url(task.identifier) == url])

    async def _fetch_cached(self, url: str) -> _TaskList | str:
        """Return the task list at a URL, or an error message."""
        fetched_at, result = self._cache.get(url, (0.0, ""))
        if url not in self._cache or self._now() - fetched_at > CACHE_TTL_SECONDS:
            result = await self._fetch(url)
            self._cache.pop(url, None)
            if len(self._cache) >= MAX_CACHED_LISTS:
                del self._cache[next(iter(self._cache))]  # the oldest
            self._cache[url] = (self._now(), result)
        return result

    async def _fetch(self, url: str) -> _TaskList | str:
        secret = {} if self._routes is None else self._routes.invoke_headers(url)
        try:
            response = await request(
                self._client,
                "GET",
                url,
                headers={"Accept": "application/json"} | secret,
                timeout_seconds=TIMEOUT_SECONDS,
                max_bytes=MAX_LIST_BYTES,
            )
            if response.status != 200:
                return f"{redact_url(url)} lists no tasks: it responded with {response.status}"
            return _TaskList.model_validate_json(response.body)
        except (httpx.DecodingError, httpx.ProtocolError) as error:
            return f"{redact_url(url)} lists no tasks: {error_text(error)}"
        except httpx.HTTPError as error:
            return f"{redact_url(url)} is unreachable: {error_text(error)}"
        except (ValidationError, httpx.InvalidURL):
            return f"{redact_url(url)} lists no tasks: it is not a jobfn function app"


def _merge(results: Iterable[_TaskList | str]) -> Listing:
    tasks: dict[str, ListedTask] = {}
    problems: list[str] = []
    for result in results:
        if isinstance(result, str):
            problems.append(result)
        else:
            tasks |= {task.identifier: task for task in result.tasks if task.identifier not in tasks}
    return Listing(tasks, tuple(problems))
