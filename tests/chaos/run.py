"""One chaos run: jobs go in while everything is killed and cut; then it is quiet until all is done.

``verdict.py`` judges what is left.
"""

import asyncio
import contextlib
import functools
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from chaos.cluster import Database, Member, alive
from chaos.exchange import LOOPBACK
from chaos.faults import FUNCTIONS, POSTGRES, WORKERS, Faults, kills
from chaos.ledger import Ledger
from chaos.plan import PlannedJob, plan
from chaos.proxy import FunctionGateway, ReportGateway, listening
from chaos.pulse import watched
from chaos.verdict import Rows, Verdict, judge
from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.migrate import migrate

T = TypeVar("T")
HANDLERS = Path(__file__).with_name("functions.py")
LEASE_SECONDS = 2
#: Jobs are added in transactions of so many.
CHUNK = 10
STOP_SECONDS = 30.0
#: Where no outgoing connection takes the port of a process that is dead for a moment.
QUIET_PORTS = range(12_000, 32_000)

TABLES = """
    create table effects (
        id bigserial primary key, number int not null, version int not null, job bigint not null, attempt int not null,
        worker text not null, delivery int not null, queue text, succeeded boolean not null,
        started timestamptz not null default clock_timestamp(), ended timestamptz
    );
    create table planned (number int, version int, job bigint not null, primary key (number, version));
"""


@dataclass(frozen=True)
class Form:
    """How long and how hard a run is.

    Attributes:
        seed: What it follows from.
        jobs: How many.
        seconds: For how long things are broken.
        kill_every_seconds: The mean time between two kills.
        calm_seconds: How long all that is left may take afterwards.
    """

    seed: int
    jobs: int
    seconds: float
    kill_every_seconds: float
    calm_seconds: float


async def run(form: Form, folder: Path) -> Verdict:
    """Run, and judge. The processes' logs go into the folder."""
    clock = asyncio.get_running_loop().time
    began_at = clock()
    ledger = Ledger(lambda: clock() - began_at)
    faults = Faults(form.seed, longest_delay_seconds=1.5 * LEASE_SECONDS)
    jobs = plan(form.seed, form.jobs, longest_delay_seconds=form.seconds / 4)
    database = Database(ledger)
    ports = quiet_ports(4)
    reports = ReportGateway(ledger, faults, ports[:2])
    try:
        dsn = await database.start()
        await _prepare(dsn)
        async with (
            listening(FunctionGateway(ledger, faults, ports[2:]).carry) as function_port,
            listening(reports.carry) as report_port,
        ):
            members = _members(dsn, folder, ledger, ports, function_port, report_port)
            async with (
                alive(members, seconds=STOP_SECONDS) as stop,
                watched(ledger, members, dsn, lease_seconds=LEASE_SECONDS),
            ):
                await asyncio.gather(_break(form, members, database), _add_all(dsn, jobs, form.seconds * 0.9))
                faults.calm = True
                await _until_done(dsn, seconds=form.calm_seconds)
                await reports.drain()
                await asyncio.gather(*(member.until_listening() for member in members))
                await stop()
        rows = await _rows(dsn)
    finally:
        await database.stop()
        (folder / "deliveries.txt").write_text("\n".join(ledger.lines()))
    return judge(form.seed, jobs, ledger, rows, members, seconds=ledger.now())


def quiet_ports(count: int) -> list[int]:
    """Ports that are free now, and that no outgoing connection will take."""
    found: list[int] = []
    for port in random.sample(QUIET_PORTS, len(QUIET_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


async def _prepare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await migrate(connection, "app_jobs")
        await connection.execute(TABLES)
        # kill -9 takes nothing from the operating system's cache: what was committed is there without waiting for disks
        await connection.execute("alter system set fsync = off")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()


def _members(
    dsn: str, folder: Path, ledger: Ledger, ports: Sequence[int], function_port: int, report_port: int
) -> list[Member]:
    workers = [
        Member(
            name,
            ["-m", "jobfn.service"],
            {
                "DATABASE_URL": dsn,
                "KNATIVE_SERVICE_URL": f"http://{LOOPBACK}:{function_port}",
                "INTERNAL_JOBS_CALLBACK_URL": f"http://{LOOPBACK}:{report_port}/callback",
                "INTERNAL_JOBS_CALLBACK_PORT": str(port),
                "HOSTNAME": name,
                "JOBS_CALLBACK_SECRET": "of-one-run",
                "JOBS_LEASE_SECONDS": str(LEASE_SECONDS),
                "JOBS_REPORT_GRACE_SECONDS": "1",
                "JOBS_POLL_INTERVAL_SECONDS": "1",
                "JOBS_CONCURRENCY": "12",
            },
            port,
            folder / f"{name}.log",
            ledger,
        )
        for name, port in zip(WORKERS, ports[:2], strict=True)
    ]
    functions = [
        Member(
            name,
            ["-m", "jobfn.function", f"{HANDLERS}:app", "--host", LOOPBACK],
            {"DATABASE_URL": dsn, "PORT": str(port), "JOBFN_REPORT_TIMEOUT_SECONDS": "20"},
            port,
            folder / f"{name}.log",
            ledger,
        )
        for name, port in zip(FUNCTIONS, ports[2:], strict=True)
    ]
    return [*workers, *functions]


async def _break(form: Form, members: Sequence[Member], database: Database) -> None:
    """Kill what the seed says, when it says it."""
    by_name = {member.name: member for member in members}
    clock = asyncio.get_running_loop().time
    began_at = clock()
    mending: asyncio.Task[None] | None = None
    for kill in kills(
        form.seed,
        seconds=form.seconds,
        every_seconds=form.kill_every_seconds,
        longest_down_seconds=1.5 * LEASE_SECONDS,
    ):
        await asyncio.sleep(began_at + kill.at_seconds - clock())
        if kill.target != POSTGRES:
            by_name[kill.target].kill(kill.down_seconds)
        elif mending is None or mending.done():
            mending = asyncio.create_task(database.kill(kill.down_seconds))
    if mending is not None:
        await mending


async def _add_all(dsn: str, jobs: Sequence[PlannedJob], seconds: float) -> None:
    """Add the jobs, spread over so many seconds."""
    clock = asyncio.get_running_loop().time
    began_at = clock()
    for first in range(0, len(jobs), CHUNK):
        await asyncio.sleep(began_at + seconds * first / len(jobs) - clock())
        await with_spinner(functools.partial(_add, dsn, jobs[first : first + CHUNK]))


async def _add(dsn: str, jobs: Sequence[PlannedJob]) -> None:
    """Add some jobs and note their ids, in one transaction; nothing where a try before this one was committed."""
    async with _connected(dsn) as connection, connection.transaction():
        for job in jobs:
            await connection.execute(
                """
                insert into planned (number, version, job)
                select $1, $2, (app_jobs.add_job(
                    identifier := $3, payload := $4::text, job_key := $5, queue_name := $6,
                    run_at := now() + $7::float8 * interval '1 second'
                )).id
                where not exists (select from planned where number = $1 and version = $2)
                """,
                job.number,
                job.version,
                job.task,
                json.dumps(job.payload()),
                job.key,
                job.queue,
                job.delay_seconds,
            )


async def _until_done(dsn: str, *, seconds: float) -> None:
    """Wait until nothing is left that is to run, or the time is over.

    What waits for its backoff is told to run now: the chaos is over, and a run is not to wait for minutes.
    """

    async def left() -> int:
        async with _connected(dsn) as connection:
            await connection.execute(
                """
                select id from app_jobs.reschedule_jobs(array(
                    select id from app_jobs.jobs
                    where locked_at is null and run_at > now() and attempts between 1 and max_attempts - 1
                ), run_at := now())
                """
            )
            found: int = await connection.fetchval(
                "select count(*) from app_jobs.jobs where locked_at is not null or attempts < max_attempts"
            )
            return found

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await with_spinner(left):  # noqa: ASYNC110  - what is asked lies in another process
                await asyncio.sleep(0.5)


async def _rows(dsn: str) -> Rows:
    async with _connected(dsn) as connection:
        return Rows(
            effects=await connection.fetch("select * from effects order by started"),
            planned=await connection.fetch("select * from planned"),
            jobs=await connection.fetch("select * from app_jobs.jobs order by id"),
            queue_locks=await connection.fetch("select * from app_jobs.queue_locks"),
        )


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
    connection = await asyncpg.connect(dsn, timeout=5, command_timeout=20)
    try:
        yield connection
    finally:
        connection.terminate()


async def with_spinner(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the database answers."""
    while True:
        try:
            return await call()
        except CONNECTION_LOST:
            await asyncio.sleep(0.1)
