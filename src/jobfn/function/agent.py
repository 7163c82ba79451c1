"""``ctx.agent``: model calls through the platform's agentic server, with the job's identity.

The methods, their results and ``AGENTIC_SERVER_URL`` are those of the platform's Python template.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from jobfn.errors import ConfigurationError
from jobfn.wire import ACTOR_ID, DATABASE_ID, ENTITY_ID

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS: Final = 120.0
#: Environment variables and their meaning, for the settings reference.
VARIABLES: Final[Mapping[str, str]] = {"AGENTIC_SERVER_URL": "URL of ``ctx.agent``."}
#: The agentic server trusts the identity headers only beside this one.
_INTERNAL_SERVICE: Final = {"X-Internal-Service": "fn-runtime-python"}
_TOKEN_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


class Agent:
    """The agentic server, for one job. It connects with the first request and closes with the job.

    Attributes:
        agentic_server_url: Its URL; empty if ``AGENTIC_SERVER_URL`` is not set.
        database_id: The tenant, if the job has one.
        entity_id: The entity that the job is about, if known.
        actor_id: The user who caused the job, if known.
    """

    def __init__(
        self, env: Mapping[str, str], *, database_id: UUID | None, entity_id: UUID | None, actor_id: UUID | None
    ) -> None:
        self.agentic_server_url = env.get("AGENTIC_SERVER_URL", "").rstrip("/")
        self.database_id = _text(database_id)
        self.entity_id = _text(entity_id)
        self.actor_id = _text(actor_id)
        self._client: httpx.AsyncClient | None = None

    async def inference(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> dict[str, Any]:
        """Return a model's answer: ``content``, ``finish_reason`` and ``usage``.

        Raises:
            ConfigurationError: ``AGENTIC_SERVER_URL`` is not set.
            httpx.HTTPError: The server did not respond, or responded with an error.
        """
        options = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        answer = await self._post("/v1/chat/completions", {"messages": list(messages)}, options)
        choice: dict[str, Any] = next(iter(answer.get("choices") or ()), {})
        return {
            "content": choice.get("message", {}).get("content", ""),
            "finish_reason": choice.get("finish_reason", "stop"),
            "usage": {name: answer.get("usage", {}).get(name, 0) for name in _TOKEN_COUNTS},
        }

    async def embed(self, input_text: str | list[str], model: str | None = None) -> dict[str, Any]:
        """Return the ``embeddings`` of one text or several, and the ``usage``.

        Raises:
            ConfigurationError: ``AGENTIC_SERVER_URL`` is not set.
            httpx.HTTPError: The server did not respond, or responded with an error.
        """
        answer = await self._post("/v1/embeddings", {"input": input_text}, {"model": model})
        usage = answer.get("usage", {})
        return {
            "embeddings": [item["embedding"] for item in answer.get("data", ())],
            "usage": {name: usage.get(name, 0) for name in _TOKEN_COUNTS if name != "completion_tokens"},
        }

    async def aclose(self) -> None:
        """Close the connection, if one is open."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _post(self, path: str, body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        import httpx  # noqa: PLC0415  - keeps cold starts short

        if not self.agentic_server_url:
            raise ConfigurationError("ctx.agent has no server: set AGENTIC_SERVER_URL, for example http://agentic:3000")
        if self._client is None:
            ids = {DATABASE_ID: self.database_id, ENTITY_ID: self.entity_id, ACTOR_ID: self.actor_id}
            headers = _INTERNAL_SERVICE | {name: value for name, value in ids.items() if value is not None}
            self._client = httpx.AsyncClient(headers=headers, timeout=TIMEOUT_SECONDS)
        content = body | {name: value for name, value in options.items() if value is not None}
        response = await self._client.post(f"{self.agentic_server_url}{path}", json=content)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def _text(value: object) -> str | None:
    return None if value is None else str(value)
