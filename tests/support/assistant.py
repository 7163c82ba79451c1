"""Clients of ``jobfn mcp``, as assistants use them. Import it after ``pytest.importorskip("mcp")``."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mcp import Client
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult, TextContent

#: Versions of the protocol with and without a handshake.
MODES = ("auto", "legacy")


@dataclass
class Person:
    """The user of an assistant, who answers its questions."""

    action: Literal["accept", "decline", "cancel"] = "accept"
    confirm: bool = True
    questions: list[str] = field(default_factory=list)

    async def answer(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        """Answer a question, and remember it."""
        self.questions.append(params.message)
        return ElicitResult(action=self.action, content={"confirm": self.confirm} if self.action == "accept" else None)


@dataclass(frozen=True)
class Assistant:
    """A client of a server."""

    client: Client

    async def call(self, tool: str, **arguments: object) -> Any:
        """Call a tool, and return what it answers."""
        is_error, text = await self._call(tool, arguments)
        assert not is_error, text
        return json.loads(text)

    async def error(self, tool: str, **arguments: object) -> str:
        """Call a tool that fails, and return its message."""
        is_error, text = await self._call(tool, arguments)
        assert is_error, text
        return text.removeprefix(f"Error executing tool {tool}: ")

    async def confirmed(self, tool: str, **arguments: object) -> Any:
        """Call a tool that changes something, confirm its plan, and return what it answers."""
        plan = await self.call(tool, **arguments)
        assert plan["changed"] is False
        return await self.call(tool, **arguments, confirmation=plan["confirmation"])

    async def tools(self) -> list[str]:
        """Return the names of the tools."""
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def _call(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        result = await self.client.call_tool(tool, arguments)
        [content] = result.content
        assert isinstance(content, TextContent)
        return bool(result.is_error), content.text


class Connect(Protocol):
    """The fixture ``connect``: opens a client of a server with these settings, by field name."""

    async def __call__(
        self,
        person: Person | None = None,
        *,
        mode: str = "auto",
        dsn: str = ...,
        clock: Callable[[], float] = ...,
        **settings: object,
    ) -> Assistant: ...
