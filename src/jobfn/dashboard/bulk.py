"""Actions on all jobs that match a filter: they run in the background, and a page shows their progress.

The page can be left, and opened again. An action belongs to this process: if it stops, the action stops after the
current transaction, and what has been done stays.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobfn.dashboard.live import LivePages, View
from jobfn.dashboard.render import Pages
from jobfn.errors import ConfigurationError, error_text
from jobfn.operations import ActionResult
from jobfn.telemetry import logs

#: Time in which short actions end, so that their result is shown at once.
GRACE_SECONDS: Final = 1.0
#: Maximum number of actions that run at the same time.
MAX_RUNNING: Final = 5
#: Maximum number of actions whose progress can be shown; the oldest ended one is forgotten.
MAX_SHOWN: Final = 50

#: Runs an action: gets itself, to report progress. Returns the result.
Work = Callable[["BulkAction"], Awaitable[ActionResult]]


@dataclass(eq=False)
class BulkAction:
    """An action that runs, or has ended.

    Attributes:
        label: What it does, in the past tense.
        back: The page that it was started from.
        total: Number of jobs that matched at the start; None: not counted yet.
        seen: Number of jobs so far.
        is_stopping: Whether someone has stopped it.
        result: The result; None while it runs.
        failure: Why it failed.
    """

    label: str
    back: str
    total: int | None = None
    seen: int = 0
    is_stopping: bool = False
    result: ActionResult | None = None
    failure: Exception | None = None
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.result is None and self.failure is None

    @property
    def error(self) -> str | None:
        """Why it failed, as text."""
        return None if self.failure is None else error_text(self.failure)

    def outcome(self) -> ActionResult:
        """Return the result of an action that has ended, or raise why it failed."""
        if self.failure is not None:
            raise self.failure
        assert self.result is not None  # noqa: S101  - it has ended
        return self.result

    def advance(self, count: int) -> None:
        """Record that this number of jobs was handled."""
        self.seen += count


class BulkActions:
    """The actions of this process, and the pages that show and stop them."""

    def __init__(self, pages: Pages, live: LivePages, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._pages = pages
        self._live = live
        self._grace_seconds = grace_seconds
        self._actions: dict[int, BulkAction] = {}
        self._numbers = itertools.count(1)

    @property
    def routes(self) -> list[Route]:
        """Routes of the pages."""
        stop = Route("/jobs/bulk/{number:int}/stop", self.stop, methods=["POST"])
        return [stop, *self._live.routes("/jobs/bulk/{number:int}", self.show)]

    async def start(self, label: str, back: str, work: Work) -> tuple[int, BulkAction]:
        """Start an action, and wait for a moment, in which short ones end. Return its number, and it.

        Raises:
            ConfigurationError: Too many actions are running.
        """
        if sum(action.is_running for action in self._actions.values()) >= MAX_RUNNING:
            raise ConfigurationError(f"{MAX_RUNNING} bulk actions are running already: wait until one of them ends")
        ended = (number for number, action in self._actions.items() if not action.is_running)
        if len(self._actions) >= MAX_SHOWN and (oldest := next(ended, None)) is not None:
            del self._actions[oldest]
        number, action = next(self._numbers), BulkAction(label, back)
        self._actions[number] = action
        action.task = asyncio.create_task(self._run(action, work))
        await asyncio.wait({action.task}, timeout=self._grace_seconds)
        return number, action

    def should_stop(self, action: BulkAction) -> bool:
        """Return whether an action should start no further transaction."""
        return action.is_stopping or self._live.is_closing

    async def show(self, request: Request) -> View:
        """Load ``GET /jobs/bulk/{number}``."""
        number: int = request.path_params["number"]
        return View("bulk.html", {"bulk": self._find(number), "number": number})

    async def stop(self, request: Request) -> Response:
        """Handle ``POST /jobs/bulk/{number}/stop``."""
        number: int = request.path_params["number"]
        self._find(number).is_stopping = True
        text = "The action ends after the current transaction. What it has done stays."
        return self._pages.notice(request, "Stopping.", text, back=f"/jobs/bulk/{number}")

    def _find(self, number: int) -> BulkAction:
        if number not in self._actions:
            text = "No such action runs in this process of the dashboard. The audit list shows what was changed."
            raise HTTPException(410, text)
        return self._actions[number]

    async def _run(self, action: BulkAction, work: Work) -> None:
        try:
            action.result = await work(action)
        except Exception as error:  # noqa: BLE001  - of any kind: the page shows it
            action.failure = error
            logs.get_logger("jobfn.dashboard").warning("bulk action failed", reason=action.error)
