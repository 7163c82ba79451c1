"""Create what pages of the documentation expect: tables, files, failed jobs, programs."""

import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import django
from django.conf import settings

from support.docs.blocks import ROOT
from support.docs.page import BIN, WILDCARD, PageEnvironment
from support.network import free_port

HANDLER = """from jobfn import task


@task("{}")
async def handle(payload: dict) -> None: ...
"""


async def _invoices(environment: PageEnvironment) -> None:
    await environment.connection.execute("create table invoices (id bigint primary key)")


async def _triggers(environment: PageEnvironment) -> None:
    """Create tables and the handler of their jobs."""
    await environment.connection.execute("""
        create table invoices (id bigint primary key, status text, total numeric, note text);
        create table channels (id bigint primary key, entity_id uuid);
        create table messages (id bigint primary key, channel_id bigint references channels);
    """)
    (environment.folder / "functions.py").write_text(HANDLER.format("process_invoice"))


async def _readme(environment: PageEnvironment) -> None:
    """Link the files of the repository that ``make demo`` reads."""
    for name in ("Makefile", "examples"):
        (environment.folder / name).symlink_to(ROOT / name)
    (environment.folder / ".venv").mkdir()
    (environment.folder / ".venv" / "bin").symlink_to(BIN)


async def _project(environment: PageEnvironment) -> None:
    """Create a project with ``jobfn init``, its wheel and a builder of images."""
    init = await environment.spawn("jobfn", "init", "template-project", "--yes", "--task", "template_task")
    assert await init.wait() == 0, init.lines
    environment.folder /= "template-project"
    (environment.folder / "wheels" / "jobfn-0.1.0-py3-none-any.whl").touch()
    _add_image_builder(environment)


async def _blueprints(environment: PageEnvironment) -> None:
    shutil.copytree(ROOT / "examples" / "blueprints", environment.folder / "blueprints")
    environment.folder /= "blueprints"
    await environment.connection.execute("drop schema app_jobs cascade")  # created by the page


async def _send_email(environment: PageEnvironment) -> None:
    """Copy the example and create the wheel that ``make dist`` builds."""
    (environment.folder / "dist").mkdir()
    (environment.folder / "dist" / "jobfn-0.1.0-py3-none-any.whl").touch()
    _copy_example(environment, "send_email")
    _add_image_builder(environment)


async def _fastapi_app(environment: PageEnvironment) -> None:
    _copy_example(environment, "fastapi_app")


async def _fulfilment(environment: PageEnvironment) -> None:
    _copy_example(environment, "fulfilment")


def _copy_example(environment: PageEnvironment, name: str) -> None:
    """Copy an example, which becomes the working directory."""
    shutil.copy(ROOT / "pyproject.toml", environment.folder)
    shutil.copytree(ROOT / "examples" / name, environment.folder / "examples" / name)
    environment.folder /= f"examples/{name}"


async def _operations(environment: PageEnvironment) -> None:
    """Start a worker and a function, and add a permanently failed job, and others that run or wait."""
    await environment.connection.execute("""
        insert into app_jobs.jobs
            (id, task_identifier, payload, attempts, max_attempts, last_error, created_at, updated_at, run_at)
        values (4711, 'send_email', '{}', 25, 25, 'connection to smtp.example.com: timeout',
                now() - interval '2 hours 1 second', now() - interval '3 minutes 1 second', now() - interval '1 hour');
        insert into app_jobs.jobs
            (id, task_identifier, queue_name, run_at, attempts, locked_at, locked_by, lease_expires_at)
        values
            (4710, 'send_email', 'invoices', now(), 1, now(), 'worker-1', now() + interval '1 hour'),
            (4712, 'send_email', 'invoices', now(), 0, null, null, null),
            (4713, 'send_email', 'invoices', '2030-01-31 09:00:00+00', 0, null, null, null);
        insert into app_jobs.queue_locks values ('invoices', 4710, 'worker-1', now(), now() + interval '1 hour')
    """)
    (environment.folder / "functions.py").write_text(HANDLER.format("send_email"))
    port = free_port()
    environment.variables |= {
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{port}",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{free_port()}/callback",
        "JOBS_SUPPORTED": "send_email",
        "JOBS_SUPPORT_ANY": "false",
    }
    variables = {"DATABASE_URL": environment.dsn, "JOBS_SETTLE_ON": "response", **environment.variables}
    serve = ("python", "-m", "jobfn.function", "functions.py", "--port", str(port))
    function = await environment.spawn(*serve, JOBFN_REPORT_TIMEOUT_SECONDS="3")
    worker = await environment.spawn("jobfn", "service", "--only", "worker", **variables)
    await function.until("serving")
    await worker.until("looking for jobs")
    migrations = len(list((ROOT / "src" / "jobfn" / "database" / "schema").glob("*.sql")))
    environment.substitutions |= {
        r"postgresql://jobs@db/shop": WILDCARD,
        r"\d+ migrations": f"{migrations} migrations",
        r"http://jobs-callback:12345/callback": environment.variables["INTERNAL_JOBS_CALLBACK_URL"],
        r"http://gateway:8080": environment.variables["KNATIVE_SERVICE_URL"],
    }


async def _ended_jobs(environment: PageEnvironment) -> None:
    """Add 1,200 permanently failed jobs, and a stored completed job."""
    await environment.connection.execute("""
        insert into app_jobs.jobs (task_identifier, attempts, max_attempts, last_error, updated_at)
        select 'send_email', 25, 25, 'connection to smtp.example.com: timeout', now() - interval '1 hour'
        from generate_series(1, 1200);
        insert into app_jobs.completed_jobs
            (id, task_identifier, payload, priority, max_attempts, created_at, completed_at)
        values (4711, 'send_email', '{}', 0, 25, now(), now());
        select setval('app_jobs.jobs_id_seq', 5119)
    """)


async def _schedules(environment: PageEnvironment) -> None:
    """Accept any date in the list of next runs."""
    environment.substitutions[r"20\d\d-\d\d-\d\d 09:00\+01:00, \.\.\.$"] = WILDCARD


async def _dashboard(environment: PageEnvironment) -> None:
    (environment.folder / "functions.py").write_text(HANDLER.format("send_email"))
    environment.variables["JOBFN_DASHBOARD_PORT"] = "0"


async def _orders(environment: PageEnvironment) -> None:
    """Create a table whose rows add jobs."""
    await environment.connection.execute("""
        create table orders (id bigint generated always as identity, total numeric);
        create function order_added() returns trigger language plpgsql as
            $$ begin perform app_jobs.add_job('process_order', to_json(new)); return new; end $$;
        create trigger order_added after insert on orders for each row execute function order_added();
    """)


async def _django(environment: PageEnvironment) -> None:
    """Set Django up, as other tests in this process do."""
    environment.substitutions[r"^postgresql://shop@db/shop$"] = environment.dsn
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()


async def _procrastinate(environment: PageEnvironment) -> None:
    """Create the part of Procrastinate's table that a move reads."""
    await environment.connection.execute("""
        create table procrastinate_jobs (
            task_name text, args jsonb, scheduled_at timestamptz, priority int, status text
        );
        insert into procrastinate_jobs values ('send_welcome', '{"user_id": 1}', null, 5, 'todo');
    """)


async def _roles(environment: PageEnvironment) -> None:
    """Create roles with unique names, because roles are global to the server."""
    for role in ("jobs_worker", "shop", "ada"):
        name = f"jobfn_docs_{secrets.token_hex(8)}"
        await environment.connection.execute(f"create role {name}")
        environment.roles.append(name)
        environment.substitutions[rf"^{role}$"] = name


async def _knative(environment: PageEnvironment) -> None:
    """Create a project, a wheel and a builder of images."""
    await _roles(environment)
    environment.substitutions |= {
        r"^postgresql://owner:PASSWORD@db.example.com/shop$": environment.dsn,
        r"^DATABASE_URL=postgresql://owner.*$": f"DATABASE_URL={environment.dsn}",
        r"^--env=DATABASE_URL=postgresql://owner.*$": f"--env=DATABASE_URL={environment.dsn}",
        r"/home/ada": str(environment.folder),
    }
    (environment.folder / "jobfn-0.1.0-py3-none-any.whl").touch()
    _add_image_builder(environment)


def _add_image_builder(environment: PageEnvironment) -> None:
    """Add a docker that does nothing, so that jobfn's part of a build runs."""
    programs = environment.folder / "programs"
    programs.mkdir()
    environment.path.append(str(programs))
    (programs / "docker").write_text("#!/bin/sh\nexit 0\n")
    (programs / "docker").chmod(0o755)


#: By the path of the page. Other pages need nothing.
PAGE_FIXTURES: dict[str, Callable[[PageEnvironment], Awaitable[None]]] = {
    "README.md": _readme,
    "docs/dashboard.md": _dashboard,
    "docs/deploy-knative.md": _knative,
    "docs/how-to/django.md": _django,
    "docs/how-to/ended-jobs.md": _ended_jobs,
    "docs/how-to/enqueue.md": _invoices,
    "docs/how-to/from-procrastinate.md": _procrastinate,
    "docs/how-to/unique-jobs.md": _invoices,
    "docs/observability.md": _orders,
    "docs/operations.md": _operations,
    "docs/schedules.md": _schedules,
    "docs/security.md": _roles,
    "docs/triggers.md": _triggers,
    "examples/blueprints/README.md": _blueprints,
    "examples/fastapi_app/README.md": _fastapi_app,
    "examples/fulfilment/README.md": _fulfilment,
    "examples/send_email/README.md": _send_email,
    "templates/function/README.md": _project,
}


async def prepare_page(page: Path, environment: PageEnvironment) -> None:
    """Create what a page expects."""
    prepare = PAGE_FIXTURES.get(str(page.relative_to(ROOT)))
    if prepare is not None:
        await prepare(environment)
