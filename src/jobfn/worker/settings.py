"""Settings of the platform side: the variables of the contract (section 5), and jobfn's own."""

from enum import StrEnum
from typing import Self

from pydantic import AliasChoices, Field, Json, field_validator, model_validator

from jobfn.errors import ConfigurationError
from jobfn.settings import CommaSeparated, EnvironmentSettings, Secrets
from jobfn.wire import has_host_per_task
from jobfn.wire.dns_names import dns_names

MIN_WORKER_ID_CHARACTERS = 4
#: Stands for the jobs without a queue in ``JOBS_QUEUES``.
NO_QUEUE = "none"


class ServiceRole(StrEnum):
    """A role of a service. Each can run in a separate process."""

    WORKER = "worker"
    CALLBACKS = "callbacks"
    SCHEDULER = "scheduler"


class SettlementMode(StrEnum):
    """The event that settles a job: the function's report or its response. ``AUTO``: the function chooses."""

    AUTO = "auto"
    REPORT = "report"
    RESPONSE = "response"


class ServiceSettings(EnvironmentSettings):
    """Settings of the platform side. Each field is read from an environment variable; empty counts as unset.

    Attributes:
        database_url: ``DATABASE_URL``. Default: ``PG*``, and the driver's defaults.
        databases: ``JOBS_DATABASES``: names or addresses of several databases, comma-separated, or ``query:`` and a
            statement that ``database_url`` answers with them (``database_list.py``). Default: only ``database_url``.
        databases_interval_seconds: ``JOBS_DATABASES_INTERVAL_SECONDS``, default 10: interval between runs of that
            statement.
        database_wait_seconds: ``JOBS_DATABASE_WAIT_SECONDS``, default 60: how long to wait at the start for a database
            that does not accept connections.
        statement_timeout_seconds: ``JOBS_STATEMENT_TIMEOUT_SECONDS``, default 15: time after which a statement is
            cancelled, and retried.
        listen_url: ``JOBS_LISTEN_URL``: the same database without a connection pooler in transaction mode, for what a
            pooler does not do: notifications and vacuum. Default: ``database_url``.
        schema_name: ``JOBS_SCHEMA``, default ``app_jobs``.
        gateway_url: ``KNATIVE_SERVICE_URL``, else ``INTERNAL_GATEWAY_URL``, default ``http://gateway:8080``. A
            ``{task}`` in it is replaced, in the host by a DNS name; without one, the task becomes the path.
        function_urls: ``JOBS_FUNCTION_URLS``: JSON ``{"task": "url"}``, takes precedence over the gateway.
        function_definitions: ``JOBS_FUNCTION_DEFINITIONS``: a table of the platform with the URLs of functions, as
            ``schema.table``, or ``auto`` for the only one. Its URLs come after ``function_urls``. Default: none.
        development_map: ``INTERNAL_GATEWAY_DEVELOPMENT_MAP``: the same for a developer's machine, takes precedence over
            both.
        support_any: ``JOBS_SUPPORT_ANY``, default true: claim jobs of every task.
        supported: ``JOBS_SUPPORTED``: comma-separated tasks to claim if ``support_any`` is false.
        queues: ``JOBS_QUEUES``: comma-separated queues; only their jobs are claimed. ``none`` stands for the jobs
            without a queue. Default: all jobs. Not on the platform's schema.
        own_callback_url: ``INTERNAL_JOBS_CALLBACK_URL``. Default: see ``callback_url``.
        callback_host: ``JOBS_CALLBACK_HOST``, default ``jobs-callback``: the callback server's host for functions.
        callback_port: ``INTERNAL_JOBS_CALLBACK_PORT``, default 12345: the port that the callback server listens on.
        worker_id: ``HOSTNAME``, default ``worker-0``; at least 4 characters.
        scheduler_id: ``HOSTNAME``, default ``scheduler-0``; at least 4 characters.
        concurrency: ``JOBS_CONCURRENCY``, default 16: maximum number of open requests to functions.
        max_in_flight_bytes: ``JOBS_MAX_IN_FLIGHT_BYTES``, default 32 MiB: maximum size of the payloads of claimed jobs
            together. The last one may exceed it, and payloads up to 16 KiB do not count.
        poll_interval_seconds: ``JOBS_POLL_INTERVAL_SECONDS``, default 5: interval between polls without a notification.
        lease_seconds: ``JOBS_LEASE_SECONDS``, default 30: duration of a running job's lease. The jobs of a dead worker
            are free again after this time.
        settle_on: ``JOBS_SETTLE_ON``, default ``auto``: the response settles a job if its function agrees, as jobfn's
            do; other functions report. ``report``: functions report to the callback server, and the response only
            counts if no report arrives. ``response``: no callback URL is sent, and the response settles the job.
        delivery_batch: ``JOBS_DELIVERY_BATCH``, default true: send several jobs of quick tasks in one request, to
            functions that accept it. Not with ``JOBS_SETTLE_ON=report``.
        callback_batch: ``JOBS_CALLBACK_BATCH``, default true: send functions a URL for batches of reports.
        callback_secrets: ``JOBS_CALLBACK_SECRET``: comma-separated keys of at least 32 characters that sign callback
            URLs. The first one signs, all are accepted. Reports without a valid token are rejected. Default: a secret
            that the schema keeps; jobs of workers that cannot sign are then settled without a token. On the platform's
            schema: not signed.
        callback_token_ttl_seconds: ``JOBS_CALLBACK_TOKEN_TTL_SECONDS``, default 3600: how long a signed URL is valid.
            Later, it is valid while the lease of its attempt is renewed.
        invoke_secrets: ``JOBFN_INVOKE_SECRET``: comma-separated, each of at least 32 characters; the first one is sent
            to functions. Default: none.
        invoke_keys: ``JOBFN_INVOKE_KEY``: comma-separated keys of at least 32 characters. The first one makes a secret
            for each function (``jobfn invoke-secret``), which is sent instead of ``invoke_secrets``. Default: none.
        request_timeout_seconds: ``JOBS_REQUEST_TIMEOUT_SECONDS``, default 14400 (4 hours, after which the contract
            counts a lock as expired): timeout for a function's response.
        tcp_timeout_seconds: ``JOBS_TCP_TIMEOUT_SECONDS``, default 15: time after which a connection to a function whose
            machine has vanished is lost.
        report_grace_seconds: ``JOBS_REPORT_GRACE_SECONDS``, default 5: time after the response, or after a connection
            that broke, in which the report may arrive, before the job is settled without it.
        health_port: ``JOBS_HEALTH_PORT``: port of ``GET /healthz`` and ``GET /readyz``, for every role. Default: 12346;
            if another process has it, probes are not answered.
        metrics_port: ``JOBS_METRICS_PORT``: port of ``GET /metrics``. Default: not served.
        metrics_host: ``JOBS_METRICS_HOST``, default ``0.0.0.0``: address of ``GET /metrics``.
        knative_service: ``K_SERVICE``, set by Knative.
        environment: ``JOBFN_ENV``: ``production`` enables warnings about missing recommended settings.
        shutdown_timeout_seconds: ``JOBS_SHUTDOWN_TIMEOUT_SECONDS``, default 25: time for running jobs after SIGTERM.
        takeover_seconds: ``JOBS_TAKEOVER_SECONDS``, default 60: time past its due time after which a schedule locked by
            another scheduler is taken over. Only for the platform's schema; jobfn's has no such locks.
        history_days: ``JOBS_HISTORY_DAYS``, default 7: retention of the history of attempts; 0 disables it. The
            platform's schema has no history.
        failed_days: ``JOBS_FAILED_DAYS``: retention of permanently failed jobs. Default: they are kept. Not on the
            platform's schema.
        completed_payload_days: ``JOBS_COMPLETED_PAYLOAD_DAYS``, default 0: retention of completed jobs with their
            payloads, so that they can run again; 0 stores none. Not on the platform's schema.
        vacuum: ``JOBS_VACUUM``, default true: vacuum the jobs table when many jobs have run, if the role may. Never the
            platform's schema.
    """

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    databases: str | None = Field(default=None, validation_alias="JOBS_DATABASES", repr=False)
    databases_interval_seconds: float = Field(default=10.0, gt=0, validation_alias="JOBS_DATABASES_INTERVAL_SECONDS")
    database_wait_seconds: float = Field(default=60.0, ge=0, validation_alias="JOBS_DATABASE_WAIT_SECONDS")
    statement_timeout_seconds: float = Field(default=15.0, gt=0, validation_alias="JOBS_STATEMENT_TIMEOUT_SECONDS")
    listen_url: str | None = Field(default=None, min_length=1, validation_alias="JOBS_LISTEN_URL")
    schema_name: str = Field(default="app_jobs", min_length=1, max_length=63, validation_alias="JOBS_SCHEMA")
    gateway_url: str = Field(
        default="http://gateway:8080", validation_alias=AliasChoices("KNATIVE_SERVICE_URL", "INTERNAL_GATEWAY_URL")
    )
    function_urls: dict[str, str] | Json[dict[str, str]] = Field(
        default_factory=dict, union_mode="left_to_right", validation_alias="JOBS_FUNCTION_URLS"
    )
    function_definitions: str | None = Field(default=None, validation_alias="JOBS_FUNCTION_DEFINITIONS")
    development_map: dict[str, str] | Json[dict[str, str]] = Field(
        default_factory=dict, union_mode="left_to_right", validation_alias="INTERNAL_GATEWAY_DEVELOPMENT_MAP"
    )
    support_any: bool = Field(default=True, validation_alias="JOBS_SUPPORT_ANY")
    supported: CommaSeparated = Field(default_factory=list, validation_alias="JOBS_SUPPORTED")
    queues: CommaSeparated = Field(default_factory=list, validation_alias="JOBS_QUEUES")
    own_callback_url: str | None = Field(default=None, validation_alias="INTERNAL_JOBS_CALLBACK_URL")
    callback_host: str = Field(default="jobs-callback", validation_alias="JOBS_CALLBACK_HOST")
    callback_port: int = Field(default=12345, ge=0, le=65535, validation_alias="INTERNAL_JOBS_CALLBACK_PORT")
    worker_id: str = Field(default="worker-0", validation_alias="HOSTNAME")
    scheduler_id: str = Field(default="scheduler-0", validation_alias="HOSTNAME")
    concurrency: int = Field(default=16, gt=0, le=10_000, validation_alias="JOBS_CONCURRENCY")
    max_in_flight_bytes: int = Field(default=32 * 1024 * 1024, gt=0, validation_alias="JOBS_MAX_IN_FLIGHT_BYTES")
    poll_interval_seconds: float = Field(default=5.0, gt=0, validation_alias="JOBS_POLL_INTERVAL_SECONDS")
    lease_seconds: float = Field(default=30.0, ge=1, le=86_400, validation_alias="JOBS_LEASE_SECONDS")
    settle_on: SettlementMode = Field(default=SettlementMode.AUTO, validation_alias="JOBS_SETTLE_ON")
    delivery_batch: bool = Field(default=True, validation_alias="JOBS_DELIVERY_BATCH")
    callback_batch: bool = Field(default=True, validation_alias="JOBS_CALLBACK_BATCH")
    callback_secrets: Secrets = Field(default_factory=list, validation_alias="JOBS_CALLBACK_SECRET", repr=False)
    invoke_secrets: Secrets = Field(default_factory=list, validation_alias="JOBFN_INVOKE_SECRET", repr=False)
    invoke_keys: Secrets = Field(default_factory=list, validation_alias="JOBFN_INVOKE_KEY", repr=False)
    callback_token_ttl_seconds: float = Field(default=3600.0, gt=0, validation_alias="JOBS_CALLBACK_TOKEN_TTL_SECONDS")
    request_timeout_seconds: float = Field(default=14_400.0, gt=0, validation_alias="JOBS_REQUEST_TIMEOUT_SECONDS")
    tcp_timeout_seconds: float = Field(default=15.0, ge=2, le=86_400, validation_alias="JOBS_TCP_TIMEOUT_SECONDS")
    report_grace_seconds: float = Field(default=5.0, ge=0, validation_alias="JOBS_REPORT_GRACE_SECONDS")
    shutdown_timeout_seconds: float = Field(default=25.0, gt=0, validation_alias="JOBS_SHUTDOWN_TIMEOUT_SECONDS")
    takeover_seconds: float = Field(default=60.0, gt=0, validation_alias="JOBS_TAKEOVER_SECONDS")
    history_days: float = Field(default=7.0, ge=0, le=36_500, allow_inf_nan=False, validation_alias="JOBS_HISTORY_DAYS")
    failed_days: float | None = Field(
        default=None, gt=0, le=36_500, allow_inf_nan=False, validation_alias="JOBS_FAILED_DAYS"
    )
    completed_payload_days: float = Field(
        default=0.0, ge=0, le=36_500, allow_inf_nan=False, validation_alias="JOBS_COMPLETED_PAYLOAD_DAYS"
    )
    vacuum: bool = Field(default=True, validation_alias="JOBS_VACUUM")
    health_port: int | None = Field(default=None, ge=0, le=65535, validation_alias="JOBS_HEALTH_PORT")
    metrics_port: int | None = Field(default=None, ge=0, le=65535, validation_alias="JOBS_METRICS_PORT")
    metrics_host: str = Field(default="0.0.0.0", validation_alias="JOBS_METRICS_HOST")  # noqa: S104  - Prometheus runs on another host
    knative_service: str | None = Field(default=None, validation_alias="K_SERVICE")
    environment: str | None = Field(default=None, validation_alias="JOBFN_ENV")

    @property
    def is_production(self) -> bool:
        """Whether the service runs on Knative, or ``JOBFN_ENV`` is ``production``."""
        return self.knative_service is not None or self.environment == "production"

    @property
    def tasks(self) -> list[str] | None:
        """The tasks to claim; None: all."""
        return None if self.support_any else self.supported

    @property
    def queue_names(self) -> list[str] | None:
        """The queues to claim from, with ``""`` for the jobs without one; None: all jobs."""
        return ["" if queue == NO_QUEUE else queue for queue in self.queues] or None

    @property
    def urls_by_task(self) -> dict[str, str]:
        """URLs of single tasks, which take precedence over the gateway."""
        return self.function_urls | self.development_map

    @property
    def callback_url(self) -> str:
        """The value of ``X-Callback-Url``, before it is signed."""
        return self.own_callback_url or f"http://{self.callback_host}:{self.callback_port}/callback"

    @field_validator("gateway_url", "own_callback_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL that begins with http:// or https://")
        return value

    @field_validator("function_urls")
    @classmethod
    def _check_function_urls(cls, value: dict[str, str]) -> dict[str, str]:
        for task, url in value.items():
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"the URL of {task!r} must begin with http:// or https://")
        return value

    @field_validator("databases")
    @classmethod
    def _check_databases(cls, value: str | None) -> str | None:
        if value is not None:
            from jobfn.worker.database_list import parse_list, parse_query  # noqa: PLC0415  - only with the setting

            try:
                if parse_query(value) is None:
                    parse_list(value)
            except ConfigurationError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("worker_id", "scheduler_id")
    @classmethod
    def _check_length(cls, value: str) -> str:
        if len(value) < MIN_WORKER_ID_CHARACTERS:
            raise ValueError(f"must have at least {MIN_WORKER_ID_CHARACTERS} characters: set a longer HOSTNAME")
        return value

    @model_validator(mode="after")
    def _check_dns_names(self) -> Self:
        """Reject tasks that would share a host at startup, before their jobs reach the wrong function."""
        if has_host_per_task(self.gateway_url):
            try:
                dns_names(task for task in self.supported if task not in self.urls_by_task)
            except ConfigurationError as error:
                raise ValueError(f"KNATIVE_SERVICE_URL={self.gateway_url!r}: {error}") from error
        return self
