"""Confirm changes before they are made.

A client that can ask its user (elicitation) is asked to. Any other client gets a plan with a token, and calls the tool
again with the same arguments and the token. A plan is used once, and expires.
"""

import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcp.server.elicitation import render_elicitation_schema
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp.types.version import is_version_at_least
from pydantic import BaseModel, Field

from jobfn.mcp.limits import MAX_PLANS, PLAN_TTL_SECONDS
from jobfn.mcp.settings import McpSettings

#: First version of the protocol in which a question to the user is the result of the call.
_INPUT_REQUIRED_VERSION: Final = "2026-07-28"
_QUESTION: Final = "confirm"


class Answer(BaseModel):
    """The form that a person fills in."""

    confirm: bool = Field(title="Confirm", description="Make this change.")


@dataclass(frozen=True, slots=True)
class Plan:
    """A change that has not been confirmed.

    Attributes:
        text: The question: what would change.
        count: Number of jobs that match, of a change of many; else 0.
    """

    text: str
    count: int
    token: str
    expires_at: float


class Confirmations:
    """Ask for confirmation of changes.

    Args:
        settings: The settings.
        place: Name of the database and the schema, for the questions.
        clock: Monotonic time in seconds.
    """

    def __init__(self, settings: McpSettings, *, place: str, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._place = place
        self._clock = clock
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    async def carry_out(
        self,
        context: Context[Any, Any],
        tool: str,
        arguments: Mapping[str, Any],
        *,
        confirmation: str | None,
        question: str,
        change: Callable[[], Awaitable[dict[str, Any]]],
    ) -> dict[str, Any] | InputRequiredResult:
        """Make a change if it is confirmed, else return its plan or the question to the user.

        Args:
            context: The context of the call.
            tool: Name of the tool.
            arguments: Its arguments: a plan is good for these alone.
            confirmation: The token of a plan.
            question: What would change.
            change: Makes the change.

        Raises:
            ToolError: The token is not that of a plan for these arguments, or the client cannot ask its user and has
                to.
        """

        async def propose() -> tuple[str, int]:
            return question, 0

        async def apply(_plan: Plan) -> dict[str, Any]:
            return await change()

        return await self.carry_out_many(
            context, tool, arguments, confirmation=confirmation, propose=propose, apply=apply
        )

    async def carry_out_many(
        self,
        context: Context[Any, Any],
        tool: str,
        arguments: Mapping[str, Any],
        *,
        confirmation: str | None,
        propose: Callable[[], Awaitable[tuple[str, int]]],
        apply: Callable[[Plan], Awaitable[dict[str, Any]]],
    ) -> dict[str, Any] | InputRequiredResult:
        """Make a change of many jobs as ``carry_out``.

        Args:
            context: The context of the call.
            tool: Name of the tool.
            arguments: Its arguments.
            confirmation: The token of a plan.
            propose: Returns the question, and how many jobs the change is for. Called for a new plan only.
            apply: Makes the change.
        """
        key = json.dumps([tool, arguments], sort_keys=True, default=str)
        plan = self._find(key)
        if plan is None:
            if confirmation is not None:
                raise ToolError(
                    "the confirmation is unknown, was used, has expired or is for other arguments: "
                    "call the tool without it first"
                )
            question, count = await propose()
            text = f"{question} {self._place}"
            plan = Plan(text, count, secrets.token_urlsafe(16), self._clock() + PLAN_TTL_SECONDS)
            self._plans[key] = plan
            while len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
        if _can_ask(context):
            answer = await _ask(context, plan)
            if isinstance(answer, InputRequiredResult):
                return answer
            if not answer:
                self._plans.pop(key, None)
                return {"changed": False, "message": "the user did not confirm: nothing changed"}
        elif self._settings.confirmation == "person":
            raise ToolError(
                "changes need the confirmation of a person (JOBFN_MCP_CONFIRMATION=person), and this client cannot ask "
                "its user: use the command line or the dashboard"
            )
        elif confirmation is None:
            return {
                "changed": False,
                "plan": plan.text,
                "confirmation": plan.token,
                "message": "Nothing has changed. Show the plan to the user. If the user agrees, call this tool again "
                "with the same arguments and this confirmation.",
            }
        elif not hmac.compare_digest(confirmation.encode("utf-8", "replace"), plan.token.encode()):
            raise ToolError("the confirmation is not that of the plan: nothing changed")
        self._plans.pop(key, None)
        return await apply(plan)

    def _find(self, key: str) -> Plan | None:
        plan = self._plans.get(key)
        if plan is not None and plan.expires_at <= self._clock():
            del self._plans[key]
            return None
        return plan


def _can_ask(context: Context[Any, Any]) -> bool:
    """Whether the client can show its user a form. An empty capability stands for forms."""
    capabilities = context.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


async def _ask(context: Context[Any, Any], plan: Plan) -> bool | InputRequiredResult:
    """Ask the user: by a request to the client, or in newer versions of the protocol by the result of the call."""
    version = context.protocol_version
    if version is None or not is_version_at_least(version, _INPUT_REQUIRED_VERSION):
        try:
            result = await context.elicit(plan.text, Answer)
        except ValueError:
            raise ToolError("the answer does not match the form: nothing changed") from None
        return result.action == "accept" and result.data.confirm
    answer = (context.input_responses or {}).get(_QUESTION)
    if context.request_state != plan.token or not isinstance(answer, ElicitResult):
        parameters = ElicitRequestFormParams(message=plan.text, requested_schema=render_elicitation_schema(Answer))
        question = ElicitRequest(params=parameters)
        return InputRequiredResult(input_requests={_QUESTION: question}, request_state=plan.token)
    return answer.action == "accept" and (answer.content or {}).get("confirm") is True
