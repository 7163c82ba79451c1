"""The platform side's settings: the variables of contract section 5, and jobfn's own beside them."""

from enum import StrEnum
from typing import Self

from pydantic import AliasChoices, Field, Json, field_validator, model_validator

from jobfn.errors import ConfigurationError
from jobfn.settings import CommaSeparated, EnvironmentSettings
from jobfn.wire import has_host_per_task
from jobfn.wire.dns_names import dns_names

MIN_WORKER_ID_CHARACTERS = 4


class ServiceRole(StrEnum):
    """What a service consists of; each can run in a process of its own."""

    WORKER = "worker"
    CALLBACKS = "callbacks"
    SCHEDULER = "scheduler"


class SettlementMode(StrEnum):
    """What says how a delivery ended."""

    REPORT = "report"
    RESPONSE = "response"


class ServiceSettings(EnvironmentSettings):
    """How the platform side runs. Every field has its environment variable as alias; empty counts as unset.

    Attributes:
        database_url: ``DATABASE_URL``; None leaves it to ``PG*`` and the client's own defaults.
        schema_name: ``JOBS_SCHEMA``, default ``app_jobs``.
        gateway_url: ``KNATIVE_SERVICE_URL``, else ``INTERNAL_GATEWAY_URL``, default ``http://gateway:8080``. A
            ``{task}`` in it is filled in, in its host as a DNS name; without one, the task becomes the path.
        function_urls: ``JOBS_FUNCTION_URLS``: JSON ``{"task": "url"}``, goes before the gateway.
        development_map: ``INTERNAL_GATEWAY_DEVELOPMENT_MAP``: the same for a developer's machine, goes before both.
        support_any: ``JOBS_SUPPORT_ANY``, default true: take every task.
        supported: ``JOBS_SUPPORTED``: comma-separated tasks to take when ``support_any`` is false.
        own_callback_url: ``INTERNAL_JOBS_CALLBACK_URL``; see ``callback_url`` for the default.
        callback_host: ``JOBS_CALLBACK_HOST``, default ``jobs-callback``: how functions reach the callback server.
        callback_port: ``INTERNAL_JOBS_CALLBACK_PORT``, default 12345: where the callback server listens.
        worker_id: ``HOSTNAME``, default ``worker-0``; 4 characters or more.
        scheduler_id: ``HOSTNAME``, default ``scheduler-0``; 4 characters or more.
        concurrency: ``JOBS_CONCURRENCY``, default 16: requests to functions at a time.
        poll_interval_seconds: ``JOBS_POLL_INTERVAL_SECONDS``, default 5: how often to look without having been notified.
        lease_seconds: ``JOBS_LEASE_SECONDS``, default 30: how long a running job's lock is good without being renewed;
            after that long, a dead worker's jobs are free again.
        settle_on: ``JOBS_SETTLE_ON``, default ``report``: a function reports to the callback server, and its response counts
            only if no report comes. ``response``: no callback URL is sent, and the response settles the job at once.
        callback_batch: ``JOBS_CALLBACK_BATCH``, default true: tell functions where reports may travel together.
        callback_secrets: ``JOBS_CALLBACK_SECRET``: comma-separated keys that sign callback URLs, the first for new
            ones, all accepted; with one, a report without a good token is refused. Default: none.
        callback_token_ttl_seconds: ``JOBS_CALLBACK_TOKEN_TTL_SECONDS``, default 86400 (a day): how long a signed callback URL is good.
        invoke_secrets: ``JOBFN_INVOKE_SECRET``: comma-separated; the first is sent to the functions. Default: none.
        request_timeout_seconds: ``JOBS_REQUEST_TIMEOUT_SECONDS``, default 14400 (4 hours, when a lock counts as forgotten): how
            long a function may take to answer.
        report_grace_seconds: ``JOBS_REPORT_GRACE_SECONDS``, default 5: how long after a function's response its
            report may still come before the response decides.
        metrics_port: ``JOBS_METRICS_PORT``: where ``GET /metrics`` is answered. Default: nowhere.
        metrics_host: ``JOBS_METRICS_HOST``, default ``0.0.0.0``: at which address of this machine's.
        knative_service: ``K_SERVICE``, set by Knative.
        environment: ``JOBFN_ENV``: ``production`` where people depend on it.
        shutdown_timeout_seconds: ``JOBS_SHUTDOWN_TIMEOUT_SECONDS``, default 25: how long running jobs may take after SIGTERM.
        takeover_seconds: ``JOBS_TAKEOVER_SECONDS``, default 60: how far past its due time a schedule is left to a
            scheduler that has locked it. jobfn's own lock none on jobfn's schema.
        history_days: ``JOBS_HISTORY_DAYS``, default 7: for how long it is kept what became of each attempt; 0 writes
            nothing down. The platform's own schema keeps no history.
        vacuum: ``JOBS_VACUUM``, default true: vacuum the jobs table when many jobs have run, where the role may. Never
            the platform's own schema.
    """

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    schema_name: str = Field(default="app_jobs", min_length=1, max_length=63, validation_alias="JOBS_SCHEMA")
    gateway_url: str = Field(
        default="http://gateway:8080", validation_alias=AliasChoices("KNATIVE_SERVICE_URL", "INTERNAL_GATEWAY_URL")
    )
    function_urls: dict[str, str] | Json[dict[str, str]] = Field(
        default_factory=dict, union_mode="left_to_right", validation_alias="JOBS_FUNCTION_URLS"
    )
    development_map: dict[str, str] | Json[dict[str, str]] = Field(
        default_factory=dict, union_mode="left_to_right", validation_alias="INTERNAL_GATEWAY_DEVELOPMENT_MAP"
    )
    support_any: bool = Field(default=True, validation_alias="JOBS_SUPPORT_ANY")
    supported: CommaSeparated = Field(default_factory=list, validation_alias="JOBS_SUPPORTED")
    own_callback_url: str | None = Field(default=None, validation_alias="INTERNAL_JOBS_CALLBACK_URL")
    callback_host: str = Field(default="jobs-callback", validation_alias="JOBS_CALLBACK_HOST")
    callback_port: int = Field(default=12345, ge=0, le=65535, validation_alias="INTERNAL_JOBS_CALLBACK_PORT")
    worker_id: str = Field(default="worker-0", validation_alias="HOSTNAME")
    scheduler_id: str = Field(default="scheduler-0", validation_alias="HOSTNAME")
    concurrency: int = Field(default=16, gt=0, le=10_000, validation_alias="JOBS_CONCURRENCY")
    poll_interval_seconds: float = Field(default=5.0, gt=0, validation_alias="JOBS_POLL_INTERVAL_SECONDS")
    lease_seconds: float = Field(default=30.0, ge=1, le=86_400, validation_alias="JOBS_LEASE_SECONDS")
    settle_on: SettlementMode = Field(default=SettlementMode.REPORT, validation_alias="JOBS_SETTLE_ON")
    callback_batch: bool = Field(default=True, validation_alias="JOBS_CALLBACK_BATCH")
    callback_secrets: CommaSeparated = Field(default_factory=list, validation_alias="JOBS_CALLBACK_SECRET", repr=False)
    invoke_secrets: CommaSeparated = Field(default_factory=list, validation_alias="JOBFN_INVOKE_SECRET", repr=False)
    callback_token_ttl_seconds: float = Field(
        default=86_400.0, gt=0, validation_alias="JOBS_CALLBACK_TOKEN_TTL_SECONDS"
    )
    request_timeout_seconds: float = Field(default=14_400.0, gt=0, validation_alias="JOBS_REQUEST_TIMEOUT_SECONDS")
    report_grace_seconds: float = Field(default=5.0, ge=0, validation_alias="JOBS_REPORT_GRACE_SECONDS")
    shutdown_timeout_seconds: float = Field(default=25.0, gt=0, validation_alias="JOBS_SHUTDOWN_TIMEOUT_SECONDS")
    takeover_seconds: float = Field(default=60.0, gt=0, validation_alias="JOBS_TAKEOVER_SECONDS")
    history_days: float = Field(default=7.0, ge=0, le=36_500, allow_inf_nan=False, validation_alias="JOBS_HISTORY_DAYS")
    vacuum: bool = Field(default=True, validation_alias="JOBS_VACUUM")
    metrics_port: int | None = Field(default=None, ge=0, le=65535, validation_alias="JOBS_METRICS_PORT")
    metrics_host: str = Field(default="0.0.0.0", validation_alias="JOBS_METRICS_HOST")  # noqa: S104  - Prometheus is elsewhere
    knative_service: str | None = Field(default=None, validation_alias="K_SERVICE")
    environment: str | None = Field(default=None, validation_alias="JOBFN_ENV")

    @property
    def is_production(self) -> bool:
        """Whether this is a place where people depend on it: Knative, or one that says so."""
        return self.knative_service is not None or self.environment == "production"

    @property
    def tasks(self) -> list[str] | None:
        """The tasks to take; None for every one."""
        return None if self.support_any else self.supported

    @property
    def urls_by_task(self) -> dict[str, str]:
        """Where single tasks live, whatever the gateway is."""
        return self.function_urls | self.development_map

    @property
    def callback_url(self) -> str:
        """What goes into ``X-Callback-Url``."""
        return self.own_callback_url or f"http://{self.callback_host}:{self.callback_port}/callback"

    @field_validator("gateway_url", "own_callback_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL that begins with http:// or https://")
        return value

    @field_validator("function_urls")
    @classmethod
    def _are_http(cls, value: dict[str, str]) -> dict[str, str]:
        for task, url in value.items():
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"the URL of {task!r} must begin with http:// or https://")
        return value

    @field_validator("worker_id", "scheduler_id")
    @classmethod
    def _is_long_enough(cls, value: str) -> str:
        if len(value) < MIN_WORKER_ID_CHARACTERS:
            raise ValueError(f"a worker id has {MIN_WORKER_ID_CHARACTERS} characters or more: set a longer HOSTNAME")
        return value

    @model_validator(mode="after")
    def _each_task_has_a_host(self) -> Self:
        """Two tasks that would share a host: said at the start, not by jobs that go astray."""
        if has_host_per_task(self.gateway_url):
            try:
                dns_names(task for task in self.supported if task not in self.urls_by_task)
            except ConfigurationError as error:
                raise ValueError(f"KNATIVE_SERVICE_URL={self.gateway_url!r}: {error}") from error
        return self
