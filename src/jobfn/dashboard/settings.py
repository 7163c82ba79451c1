"""Settings of the dashboard."""

from pydantic import Field, field_validator, model_validator

from jobfn.dashboard.users import Role, User, parse_users
from jobfn.http.loopback import is_loopback_address
from jobfn.settings import MIN_SECRET_CHARACTERS, SHORT_SECRET, EnvironmentSettings

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8081
#: Default lifetime of a login: a working day.
SESSION_TTL_SECONDS = 12 * 3600.0

TOKEN_MISSING = (
    "the dashboard must not listen beyond this machine without a login: set JOBFN_DASHBOARD_TOKEN to a long random "  # noqa: S105
    "text (python -c 'import secrets; print(secrets.token_urlsafe(32))'), or listen on 127.0.0.1"
)


class DashboardSettings(EnvironmentSettings):
    """Settings of the dashboard.

    Attributes:
        host: ``JOBFN_DASHBOARD_HOST``, default ``127.0.0.1``: the address to listen on.
        port: ``JOBFN_DASHBOARD_PORT``, default 8081; 0 for a free port.
        token: ``JOBFN_DASHBOARD_TOKEN``: token to log in with, at least 32 characters. Default None: no login; only
            allowed on a loopback address.
        tokens: ``JOBFN_DASHBOARD_TOKENS``: users as ``NAME:ROLE:TOKEN``, separated by commas; the role is ``viewer`` or
            ``operator``. Beside ``token``, which belongs to an operator without a name.
        read_only: ``JOBFN_DASHBOARD_READ_ONLY``, default false: show everything, change nothing.
        refresh_seconds: Interval between updates of a live page, in seconds. Default 1.
        stream_seconds: Maximum duration of a live stream before the browser reconnects, in seconds. Default 600.
        session_ttl_seconds: Lifetime of a login, in seconds. Default 12 hours.
    """

    host: str = Field(default=LOOPBACK, validation_alias="JOBFN_DASHBOARD_HOST")
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535, validation_alias="JOBFN_DASHBOARD_PORT")
    token: str | None = Field(default=None, validation_alias="JOBFN_DASHBOARD_TOKEN", repr=False)
    tokens: str | None = Field(default=None, validation_alias="JOBFN_DASHBOARD_TOKENS", repr=False)
    read_only: bool = Field(default=False, validation_alias="JOBFN_DASHBOARD_READ_ONLY")
    refresh_seconds: float = Field(default=1.0, gt=0)
    stream_seconds: float = Field(default=600.0, gt=0)
    session_ttl_seconds: float = Field(default=SESSION_TTL_SECONDS, gt=0)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the dashboard."""
        return is_loopback_address(self.host)

    @property
    def users(self) -> tuple[User, ...]:
        """The users who can log in; empty if there is no login."""
        unnamed = () if self.token is None else (User("", Role.OPERATOR, self.token),)
        return unnamed if self.tokens is None else (*unnamed, *parse_users(self.tokens))

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, tokens: str | None) -> str | None:
        if tokens is not None:
            parse_users(tokens)
        return tokens

    @model_validator(mode="after")
    def _check_token(self) -> "DashboardSettings":
        # The messages must not quote the token.
        if self.token is not None and len(self.token) < MIN_SECRET_CHARACTERS:
            raise ValueError(f"JOBFN_DASHBOARD_TOKEN: {SHORT_SECRET}")
        if len({user.token for user in self.users}) < len(self.users):
            raise ValueError("JOBFN_DASHBOARD_TOKENS: a user has the token of JOBFN_DASHBOARD_TOKEN: give it its own")
        if not self.users and not self.is_loopback:
            raise ValueError(TOKEN_MISSING)
        return self
