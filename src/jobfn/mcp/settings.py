"""Settings of the MCP server."""

from typing import Literal

from pydantic import Field, field_validator

from jobfn.settings import MIN_SECRET_CHARACTERS, SHORT_SECRET, EnvironmentSettings

DEFAULT_PORT = 8082


class McpSettings(EnvironmentSettings):
    """Settings of the MCP server.

    Attributes:
        read_only: ``JOBFN_MCP_READ_ONLY``, default false: offer only the tools that change nothing.
        payloads: ``JOBFN_MCP_PAYLOADS``, default true: show payloads and results if a call asks for them. False: never.
        confirmation: ``JOBFN_MCP_CONFIRMATION``, default ``plan``: a client that cannot ask its user confirms a change
            by a second call. ``person``: changes are refused from such clients.
        port: ``JOBFN_MCP_PORT``, default 8082: the port with ``--http``; 0 for a free one.
        token: ``JOBFN_MCP_TOKEN``: the bearer token that clients send with ``--http``, at least 32 characters.
    """

    read_only: bool = Field(default=False, validation_alias="JOBFN_MCP_READ_ONLY")
    payloads: bool = Field(default=True, validation_alias="JOBFN_MCP_PAYLOADS")
    confirmation: Literal["plan", "person"] = Field(default="plan", validation_alias="JOBFN_MCP_CONFIRMATION")
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535, validation_alias="JOBFN_MCP_PORT")
    token: str | None = Field(default=None, validation_alias="JOBFN_MCP_TOKEN", repr=False)

    @field_validator("token")
    @classmethod
    def _check_token(cls, token: str | None) -> str | None:
        if token is not None and len(token) < MIN_SECRET_CHARACTERS:
            raise ValueError(SHORT_SECRET)
        return token
