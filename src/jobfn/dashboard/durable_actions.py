"""Send a signal to a durable function, or retry it from a step.

As in ``actions.py``, each is two POST requests: the first shows a form or a confirmation and changes nothing.
"""

import json
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext, actor
from jobfn.errors import ConfigurationError, DatabaseError, PermissionDenied
from jobfn.operations import Operations
from jobfn.operations.durable_actions import StepRetry
from jobfn.telemetry import logs


class DurableActionPages:
    """The pages that change durable functions."""

    def __init__(self, pages: Pages, operations: Operations) -> None:
        self._pages = pages
        self._operations = operations

    @property
    def routes(self) -> list[Route]:
        """Routes of the pages."""
        return [
            Route("/jobs/{id:int}/signal", self.signal_form, methods=["POST"]),
            Route("/jobs/{id:int}/signal/send", self.send_signal, methods=["POST"]),
            Route("/jobs/{id:int}/retry-from-step", self.confirm_retry, methods=["POST"]),
            Route("/jobs/{id:int}/retry-from-step/apply", self.retry, methods=["POST"]),
        ]

    async def signal_form(self, request: Request) -> Response:
        """Handle ``POST /jobs/{id}/signal``: show the form, with the events that the job waits for."""
        job_id = _job_id(request)
        detail = await self._operations.get_job(job_id)
        run = None if detail is None else detail.run
        events = [] if run is None else [step.event for step in run.steps if step.event and step.state == "waiting"]
        return self._form(request, job_id, event=events[0] if events else "", events=events)

    async def send_signal(self, request: Request) -> Response:
        """Handle ``POST /jobs/{id}/signal/send``."""
        form = RequestContext.from_request(request).form
        job_id, event, payload = _job_id(request), form.one("event"), form.one("payload")
        try:
            _check_json(payload)
            is_sent = await self._operations.send_signal(job_id, event, payload or None)
        except PermissionDenied:
            raise
        except (ValueError, ConfigurationError, DatabaseError) as problem:
            return self._form(request, job_id, event=event, payload=payload, problem=str(problem))
        logs.get_logger("jobfn.dashboard").info("signal sent", job=job_id, is_sent=is_sent, by=actor(request))
        if not is_sent:
            return self._notice(request, job_id, "Nothing was sent.", f"Job #{job_id} has ended.", is_problem=True)
        return self._notice(request, job_id, "Sent:", f"{event} to job #{job_id}.")

    async def confirm_retry(self, request: Request) -> Response:
        """Handle ``POST /jobs/{id}/retry-from-step``: show what would be forgotten."""
        retry = await self._plan(request)
        if isinstance(retry, Response):
            return retry
        return self._pages.respond(request, "retry_from_step.html", {"retry": retry})

    async def retry(self, request: Request) -> Response:
        """Handle ``POST /jobs/{id}/retry-from-step/apply``."""
        retry = await self._plan(request)
        if isinstance(retry, Response):
            return retry
        try:
            await self._operations.retry_from_step(retry)
        except PermissionDenied:
            raise
        except DatabaseError as problem:
            return self._refuse(request, problem)
        logs.get_logger("jobfn.dashboard").info(
            "retried from a step", job=retry.job_id, position=retry.position, by=actor(request)
        )
        return self._notice(request, retry.job_id, "Retried:", f"job #{retry.job_id} from {retry.name}.")

    async def _plan(self, request: Request) -> StepRetry | Response:
        position = RequestContext.from_request(request).form.one("position")
        try:
            return await self._operations.plan_retry(_job_id(request), int(position) if position.isdecimal() else 0)
        except PermissionDenied:
            raise
        except (ConfigurationError, DatabaseError) as problem:
            return self._refuse(request, problem)

    def _form(
        self,
        request: Request,
        job_id: int,
        *,
        event: str,
        events: Sequence[str] = (),
        payload: str = "",
        problem: str | None = None,
    ) -> Response:
        context = {"id": job_id, "event": event, "events": events, "payload": payload, "problem": problem}
        return self._pages.respond(request, "signal.html", context, status_code=422 if problem else 200)

    def _refuse(self, request: Request, problem: Exception) -> Response:
        return self._notice(request, _job_id(request), "Nothing changed.", str(problem), is_problem=True)

    def _notice(self, request: Request, job_id: int, title: str, text: str, *, is_problem: bool = False) -> Response:
        return self._pages.notice(request, title, text, back=f"/jobs/{job_id}", is_problem=is_problem)


def _job_id(request: Request) -> int:
    return min(int(request.path_params["id"]), 2**63)  # which no job has


def _check_json(text: str) -> None:
    if not text:
        return
    try:
        json.loads(text, parse_int=str)  # PostgreSQL has no limit for integers
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The payload is not valid JSON: {error}.") from None
