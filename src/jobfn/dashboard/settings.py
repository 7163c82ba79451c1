"""How the dashboard is served, and who may see it."""

import ipaddress

from pydantic import Field, model_validator

from jobfn.settings import EnvironmentSettings

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8081
#: Short enough to be typed, long enough not to be guessed.
MIN_TOKEN_CHARACTERS = 16
#: A working day: whoever logged in in the morning is still logged in at its end.
SESSION_SECONDS = 12 * 3600.0

TOKEN_MISSING = (
    "the dashboard listens beyond this machine, where everyone who reaches it could steer your jobs: set "  # noqa: S105
    "JOBFN_DASHBOARD_TOKEN to a long random text (python -c 'import secrets; print(secrets.token_urlsafe(32))'), "
    "or listen on 127.0.0.1"
)


class DashboardSettings(EnvironmentSettings):
    """How the dashboard runs.

    Attributes:
        host: ``JOBFN_DASHBOARD_HOST``, default ``127.0.0.1``: the address to listen on.
        port: ``JOBFN_DASHBOARD_PORT``, default 8081; 0 for any free one.
        token: ``JOBFN_DASHBOARD_TOKEN``: what a person types in to log in; 16 characters or more. Default None: no
            login, which only a loopback address allows.
        read_only: ``JOBFN_DASHBOARD_READ_ONLY``, default false: show everything, change nothing.
        refresh_seconds: How often a page that somebody looks at is compared with the database, in seconds; default 1.
        stream_seconds: How long a page is followed before its login is looked at again, in seconds; default 10 minutes.
        session_ttl_seconds: How long a login is good, in seconds; default 12 hours.
    """

    host: str = Field(default=LOOPBACK, validation_alias="JOBFN_DASHBOARD_HOST")
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535, validation_alias="JOBFN_DASHBOARD_PORT")
    token: str | None = Field(default=None, validation_alias="JOBFN_DASHBOARD_TOKEN", repr=False)
    read_only: bool = Field(default=False, validation_alias="JOBFN_DASHBOARD_READ_ONLY")
    refresh_seconds: float = Field(default=1.0, gt=0)
    stream_seconds: float = Field(default=600.0, gt=0)
    session_ttl_seconds: float = Field(default=SESSION_SECONDS, gt=0)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _strangers_need_a_token(self) -> "DashboardSettings":
        # Neither text may quote the token: it is the whole secret.
        if self.token is not None and len(self.token) < MIN_TOKEN_CHARACTERS:
            raise ValueError(f"JOBFN_DASHBOARD_TOKEN is too short: {MIN_TOKEN_CHARACTERS} characters or more")
        if self.token is None and not self.is_loopback:
            raise ValueError(TOKEN_MISSING)
        return self
