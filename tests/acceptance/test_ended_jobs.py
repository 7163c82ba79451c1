"""Two services in separate processes keep the history's partitions, failed jobs and completed jobs."""

from pathlib import Path
from textwrap import dedent

from support.commands import Spawn
from support.jobs import Jobs
from support.network import eventually, free_port

FUNCTIONS = dedent(
    """
    from jobfn import task

    @task("greet")
    async def greet(payload: dict) -> None: ...
    """
)
IS_MAINTAINED = """
    select not exists (select from app_jobs.jobs)
        and (select count(*) = 4 from app_jobs.job_runs_partitions() where not is_default)
        and (select completed_payload_retention = interval '1 day' from app_jobs.history_settings)
"""


async def test_services_maintain_ended_jobs_together(spawn: Spawn, database: str, jobs: Jobs, tmp_path: Path) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts, max_attempts, updated_at)"
        " select 'x', 1, 1, now() - interval '2 days' from generate_series(1, 1500)"
    )
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    function_port = free_port()
    function = await spawn("jobfn", "serve", "functions.py", "--host", "127.0.0.1", "--port", str(function_port))
    await function.until('"serving"')
    services = []
    for name in ("worker-a", "worker-b"):
        callback_port = free_port()
        service = await spawn(
            *("jobfn", "service"),
            DATABASE_URL=database,
            HOSTNAME=name,
            KNATIVE_SERVICE_URL=f"http://127.0.0.1:{function_port}",
            INTERNAL_JOBS_CALLBACK_URL=f"http://127.0.0.1:{callback_port}/callback",
            INTERNAL_JOBS_CALLBACK_PORT=str(callback_port),
            JOBS_COMPLETED_PAYLOAD_DAYS="1",
            JOBS_FAILED_DAYS="1",
        )
        await service.until("looking for jobs")
        services.append(service)
    await eventually(lambda: jobs.connection.fetchval(IS_MAINTAINED))
    added = [await jobs.add("greet", {"n": number}) for number in range(20)]
    await eventually(lambda: jobs.connection.fetchval("select not exists (select from app_jobs.jobs)"))
    stored = await jobs.connection.fetch("select id, payload from app_jobs.completed_jobs order by id")
    assert [tuple(row) for row in stored] == [(job, f'{{"n": {number}}}') for number, job in enumerate(added)]
    runs = "select count(*) from app_jobs.job_runs where outcome = $1"
    assert await jobs.connection.fetchval(runs, "removed") == 1500
    assert await jobs.connection.fetchval(runs, "completed") == 20
    for service in services:
        assert "Traceback" not in "\n".join(service.lines)
