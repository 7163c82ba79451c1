"""The function side's settings, from environment variables."""

from uuid import UUID

from pydantic import Field

from jobfn.settings import CommaSeparated, EnvironmentSettings, Secrets


class FunctionSettings(EnvironmentSettings):
    """Settings of a function app. The alias of each field is its environment variable; empty counts as unset.

    Attributes:
        max_body_bytes: ``JOBFN_MAX_BODY_BYTES``, default 10 MiB: maximum size of a request body.
        max_threads: ``JOBFN_MAX_THREADS``, default 16: maximum number of concurrent sync handlers.
        max_background_jobs: ``JOBFN_MAX_BACKGROUND_JOBS``, default 16: maximum number of concurrent jobs of
            ``background=True`` tasks. Further ones are answered with 429, and the worker retries them.
        callback_allowed_hosts: ``JOBFN_CALLBACK_ALLOWED_HOSTS``: comma-separated hosts, each ``name``, ``name:port`` or
            ``*.domain``, that reports and heartbeats may go to. Default: any host.
        invoke_secrets: ``JOBFN_INVOKE_SECRET``: comma-separated secrets of at least 32 characters, one of which a
            worker must send. Default: none, anyone may call.
        db_any_caller: ``JOBFN_DB_ANY_CALLER``, default false: without an invoke secret, let any caller choose the
            tenant of ``ctx.db``, not only those of this machine.
        report_timeout_seconds: ``JOBFN_REPORT_TIMEOUT_SECONDS``: how long a report is retried. Default: for the lease
            that the worker sends (``X-Lease-Seconds``), or 30 if it sends none.
        report_wait_seconds: ``JOBFN_REPORT_WAIT_SECONDS``, default 2: how long a response waits for its report to be
            acknowledged. Afterwards the report is retried in the background.
        metrics: ``JOBFN_METRICS``, default true: answer ``GET /metrics``.
        shutdown_timeout_seconds: ``JOBFN_SHUTDOWN_TIMEOUT_SECONDS``, default 25: how long running handlers may take
            after SIGTERM.
        cancel_grace_seconds: ``JOBFN_CANCEL_GRACE_SECONDS``, default 10: how long the handler of a cancelled job may
            clean up. Then an async handler is cancelled again, and a sync one is left to its thread.
        tracebacks: ``JOBFN_TRACEBACKS``: send the traceback of an exception with the failure, without values of
            variables. Default: to callers with the invoke secret and, without one, to callers on this machine. true: to
            any caller. false: to none.
        default_database_id: ``DEFAULT_DATABASE_ID``: the tenant of jobs without one. Default: none.
    """

    max_body_bytes: int = Field(default=10 * 1024 * 1024, gt=0, validation_alias="JOBFN_MAX_BODY_BYTES")
    max_threads: int = Field(default=16, gt=0, le=1024, validation_alias="JOBFN_MAX_THREADS")
    max_background_jobs: int = Field(default=16, gt=0, validation_alias="JOBFN_MAX_BACKGROUND_JOBS")
    callback_allowed_hosts: CommaSeparated = Field(
        default_factory=list, validation_alias="JOBFN_CALLBACK_ALLOWED_HOSTS"
    )
    invoke_secrets: Secrets = Field(default_factory=list, validation_alias="JOBFN_INVOKE_SECRET", repr=False)
    db_any_caller: bool = Field(default=False, validation_alias="JOBFN_DB_ANY_CALLER")
    report_timeout_seconds: float | None = Field(default=None, gt=0, validation_alias="JOBFN_REPORT_TIMEOUT_SECONDS")
    report_wait_seconds: float = Field(default=2.0, ge=0, validation_alias="JOBFN_REPORT_WAIT_SECONDS")
    metrics: bool = Field(default=True, validation_alias="JOBFN_METRICS")
    shutdown_timeout_seconds: float = Field(default=25.0, gt=0, validation_alias="JOBFN_SHUTDOWN_TIMEOUT_SECONDS")
    cancel_grace_seconds: float = Field(default=10.0, ge=0, validation_alias="JOBFN_CANCEL_GRACE_SECONDS")
    tracebacks: bool | None = Field(default=None, validation_alias="JOBFN_TRACEBACKS")
    default_database_id: UUID | None = Field(default=None, validation_alias="DEFAULT_DATABASE_ID")
