"""Which tasks there are and what each takes: asked of the function apps themselves.

A function app lists its tasks with their JSON Schemas at ``GET /``. Where that is follows from where its jobs go
(``worker/dispatch.py``'s ``Routes``): the gateway, the URLs of single tasks, and the URL of the one task that is asked
for. A function that is no jobfn lists nothing; its jobs are then written as JSON.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from jobfn.wire import redact_url
from jobfn.worker.dispatch import Routes

#: A list is good for so long; a saved file is seen with the next one.
FRESH_SECONDS = 2.0
TIMEOUT_SECONDS = 3.0
MAX_LIST_BYTES = 4 * 1024 * 1024


class ListedTask(BaseModel):
    """A task as its function app lists it.

    Attributes:
        identifier: The task identifier.
        description: The first line of its docstring.
        payload: The JSON Schema of its payload; ``{}`` says nothing.
    """

    identifier: str
    description: str = ""
    payload: dict[str, Any] = Field(default_factory=dict)


class _Index(BaseModel):
    tasks: list[ListedTask]


@dataclass(frozen=True, slots=True)
class Listing:
    """What the function apps said.

    Attributes:
        tasks: By identifier.
        problems: Who said nothing, and why.
    """

    tasks: Mapping[str, ListedTask] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Catalog:
    """Asks function apps for their tasks.

    Args:
        routes: Where each task lives; None where nobody said, and nothing is asked.
        client: What carries the questions. Default: one of its own, that reads no proxy settings.
        now: A clock in seconds.
    """

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
        self._asked: dict[str, tuple[float, _Index | str]] = {}

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def all(self) -> Listing:
        """The tasks of every function app that can be found without knowing a task."""
        if self._routes is None:
            return Listing()
        urls = dict.fromkeys(self._routes.by_task.values())
        if "{task}" not in self._routes.gateway_url:
            urls = {f"{self._routes.gateway_url.rstrip('/')}/": None} | urls
        return _merged(await asyncio.gather(*(self._ask(url) for url in urls)))

    async def find(self, task: str) -> tuple[ListedTask | None, tuple[str, ...]]:
        """One task, and where it is not listed, what the function apps that were asked answered."""
        listing = await self.all()
        if self._routes is not None and task not in listing.tasks:
            own = _merged([await self._ask(self._routes.url_for(task))])
            listing = Listing({**listing.tasks, **own.tasks}, (*listing.problems, *own.problems))
        found = listing.tasks.get(task)
        return found, () if found is not None else tuple(dict.fromkeys(listing.problems))

    async def _ask(self, url: str) -> _Index | str:
        """What the app at a URL lists, or why that is not known."""
        asked_at, answer = self._asked.get(url, (0.0, ""))
        if url not in self._asked or self._now() - asked_at > FRESH_SECONDS:
            answer = await self._asked_now(url)
            self._asked[url] = (self._now(), answer)
        return answer

    async def _asked_now(self, url: str) -> _Index | str:
        body = b""
        try:
            async with self._client.stream("GET", url, headers={"Accept": "application/json"}) as answer:
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_LIST_BYTES:
                        return f"{redact_url(url)} answers with more than a list of tasks"
                if answer.status_code != 200:
                    return f"{redact_url(url)} lists no tasks: it answered {answer.status_code}"
            return _Index.model_validate_json(body)
        except httpx.HTTPError as error:
            return f"{redact_url(url)} does not answer: {str(error) or type(error).__name__}"
        except (ValidationError, httpx.InvalidURL):
            return f"{redact_url(url)} lists no tasks as jobfn does"


def _merged(answers: Iterable[_Index | str]) -> Listing:
    tasks: dict[str, ListedTask] = {}
    problems: list[str] = []
    for answer in answers:
        if isinstance(answer, str):
            problems.append(answer)
        else:
            tasks |= {task.identifier: task for task in answer.tasks if task.identifier not in tasks}
    return Listing(tasks, tuple(problems))
