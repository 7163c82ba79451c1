"""The function side's settings, from the environment."""

from pydantic import Field

from jobfn.settings import CommaSeparated, EnvironmentSettings


class FunctionSettings(EnvironmentSettings):
    """How a function app behaves. Every field has its environment variable as alias; empty counts as unset.

    Attributes:
        max_body_bytes: ``JOBFN_MAX_BODY_BYTES``, default 10 MiB: the largest request body that is read.
        max_threads: ``JOBFN_MAX_THREADS``, default 16: how many sync handlers run at once.
        max_background_jobs: ``JOBFN_MAX_BACKGROUND_JOBS``, default 16: how many jobs of ``background=True`` tasks run at once;
            further ones are answered with 429, and come again.
        callback_allowed_hosts: ``JOBFN_CALLBACK_ALLOWED_HOSTS``: comma-separated hosts, each ``name``, ``name:port`` or ``*.domain``,
            that reports and signs of life may go to. Default: none, any host.
        invoke_secrets: ``JOBFN_INVOKE_SECRET``: comma-separated secrets, one of which a worker must send. Default:
            none, anybody may call.
        report_timeout_seconds: ``JOBFN_REPORT_TIMEOUT_SECONDS``: how long a report is tried before it is given up. Default: as long as
            the lease that the worker told of (``X-Lease-Seconds``); 30 where it told of none.
        report_wait_seconds: ``JOBFN_REPORT_WAIT_SECONDS``, default 2: how long a response waits for its report to
            be heard; the report is tried on after it.
        metrics: ``JOBFN_METRICS``, default true: answer ``GET /metrics``.
        shutdown_timeout_seconds: ``JOBFN_SHUTDOWN_TIMEOUT_SECONDS``, default 25: how long running handlers may take after SIGTERM.
    """

    max_body_bytes: int = Field(default=10 * 1024 * 1024, gt=0, validation_alias="JOBFN_MAX_BODY_BYTES")
    max_threads: int = Field(default=16, gt=0, le=1024, validation_alias="JOBFN_MAX_THREADS")
    max_background_jobs: int = Field(default=16, gt=0, validation_alias="JOBFN_MAX_BACKGROUND_JOBS")
    callback_allowed_hosts: CommaSeparated = Field(
        default_factory=list, validation_alias="JOBFN_CALLBACK_ALLOWED_HOSTS"
    )
    invoke_secrets: CommaSeparated = Field(default_factory=list, validation_alias="JOBFN_INVOKE_SECRET", repr=False)
    report_timeout_seconds: float | None = Field(default=None, gt=0, validation_alias="JOBFN_REPORT_TIMEOUT_SECONDS")
    report_wait_seconds: float = Field(default=2.0, ge=0, validation_alias="JOBFN_REPORT_WAIT_SECONDS")
    metrics: bool = Field(default=True, validation_alias="JOBFN_METRICS")
    shutdown_timeout_seconds: float = Field(default=25.0, gt=0, validation_alias="JOBFN_SHUTDOWN_TIMEOUT_SECONDS")
