"""What a page of the documentation takes for granted: tables, files, jobs that have failed, programs of others.

A page shows what its reader does, not what the reader has already. Here it is made, page by page.
"""

import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from support.docs.blocks import ROOT
from support.docs.page import ANYTHING, BIN, Stage
from support.network import free_port

HANDLER = """from jobfn import task


@task("{}")
async def handle(payload: dict) -> None: ...
"""


async def _nothing(_stage: Stage) -> None:
    """The page shows all."""


async def _invoices(stage: Stage) -> None:
    await stage.connection.execute("create table invoices (id bigint primary key)")


async def _triggers(stage: Stage) -> None:
    """A table, and the handler of its jobs."""
    await stage.connection.execute(
        "create table invoices (id bigint primary key, status text, total numeric, note text)"
    )
    (stage.folder / "functions.py").write_text(HANDLER.format("process_invoice"))


async def _readme(stage: Stage) -> None:
    """The repository: what ``make demo`` reads, and where it finds the commands."""
    for name in ("Makefile", "examples"):
        (stage.folder / name).symlink_to(ROOT / name)
    (stage.folder / ".venv").mkdir()
    (stage.folder / ".venv" / "bin").symlink_to(BIN)


async def _project(stage: Stage) -> None:
    """A project as ``jobfn init`` makes it, with the wheel that it brings, and something that builds images."""
    made = await stage.spawn("jobfn", "init", "template-project", "--yes", "--task", "template_task")
    assert await made.ended() == 0, made.lines
    stage.folder /= "template-project"
    (stage.folder / "wheels" / "jobfn-0.1.0-py3-none-any.whl").touch()
    _builder(stage)


async def _blueprints(stage: Stage) -> None:
    shutil.copytree(ROOT / "examples" / "blueprints", stage.folder / "blueprints")
    stage.folder /= "blueprints"
    await stage.connection.execute("drop schema app_jobs cascade")  # the page makes it


async def _send_email(stage: Stage) -> None:
    """The example in its place below the repository's root, where ``make dist`` has been."""
    (stage.folder / "dist").mkdir()
    (stage.folder / "dist" / "jobfn-0.1.0-py3-none-any.whl").touch()
    shutil.copy(ROOT / "pyproject.toml", stage.folder)
    shutil.copytree(ROOT / "examples" / "send_email", stage.folder / "examples" / "send_email")
    stage.folder /= "examples/send_email"
    _builder(stage)


async def _operations(stage: Stage) -> None:
    """A worker, a function, and a job that has failed for good."""
    await stage.connection.execute("""
        insert into app_jobs.jobs
            (id, task_identifier, payload, attempts, max_attempts, last_error, created_at, updated_at, run_at)
        values (4711, 'send_email', '{}', 25, 25, 'connection to smtp.example.com: timeout',
                now() - interval '2 hours 1 second', now() - interval '3 minutes 1 second', now() - interval '1 hour')
    """)
    (stage.folder / "functions.py").write_text(HANDLER.format("send_email"))
    port = free_port()
    stage.variables |= {
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{port}",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{free_port()}/callback",
        "JOBS_SUPPORTED": "send_email",
        "JOBS_SUPPORT_ANY": "false",
    }
    here = {"DATABASE_URL": stage.dsn, "JOBS_SETTLE_ON": "response", **stage.variables}
    serve = ("python", "-m", "jobfn.function", "functions.py", "--port", str(port))
    function = await stage.spawn(*serve, JOBFN_REPORT_TIMEOUT_SECONDS="3")
    worker = await stage.spawn("jobfn", "service", "--only", "worker", **here)
    await function.until("serving")
    await worker.until("looking for jobs")
    migrations = len(list((ROOT / "src" / "jobfn" / "database" / "schema").glob("*.sql")))
    stage.shown |= {
        r"postgresql://jobs@db/shop": ANYTHING,
        r"\d+ migrations": f"{migrations} migrations",
        r"http://jobs-callback:12345/callback": stage.variables["INTERNAL_JOBS_CALLBACK_URL"],
        r"http://gateway:8080": stage.variables["KNATIVE_SERVICE_URL"],
    }


async def _schedules(stage: Stage) -> None:
    """The page's next times are those of a day to come."""
    stage.shown[r"20\d\d-\d\d-\d\d 09:00\+01:00, \.\.\.$"] = ANYTHING


async def _dashboard(stage: Stage) -> None:
    (stage.folder / "functions.py").write_text(HANDLER.format("send_email"))
    stage.variables["JOBFN_DASHBOARD_PORT"] = "0"


async def _orders(stage: Stage) -> None:
    """A table whose rows add jobs."""
    await stage.connection.execute("""
        create table orders (id bigint generated always as identity, total numeric);
        create function order_added() returns trigger language plpgsql as
            $$ begin perform app_jobs.add_job('process_order', to_json(new)); return new; end $$;
        create trigger order_added after insert on orders for each row execute function order_added();
    """)


async def _roles(stage: Stage) -> None:
    """Roles of the server's own: what the page calls them may be somebody's here."""
    for option in ("--grant-worker jobs_worker", "--grant-enqueue shop"):
        name = f"jobfn_docs_{secrets.token_hex(8)}"
        await stage.connection.execute(f"create role {name}")
        stage.roles.append(name)
        stage.shown[rf"^{option.rpartition(' ')[2]}$"] = name


async def _knative(stage: Stage) -> None:
    """Two projects, something that builds images, and a database whose owner the reader is."""
    await _roles(stage)
    stage.shown |= {
        r"^postgresql://owner:PASSWORD@db.example.com/shop$": stage.dsn,
        r"^DATABASE_URL=postgresql://owner.*$": f"DATABASE_URL={stage.dsn}",
        r"^--env=DATABASE_URL=postgresql://owner.*$": f"--env=DATABASE_URL={stage.dsn}",
        r"/home/ada": str(stage.folder),
    }
    (stage.folder / "jobfn-0.1.0-py3-none-any.whl").touch()
    made = await stage.spawn("jobfn", "init", "emails", "--yes", "--task", "email:send_email")
    assert await made.ended() == 0, made.lines
    _builder(stage)


def _builder(stage: Stage) -> None:
    """A docker that is called and does nothing, so that jobfn's own part of a build is run."""
    programs = stage.folder / "programs"
    programs.mkdir()
    stage.programs.append(str(programs))
    (programs / "docker").write_text("#!/bin/sh\nexit 0\n")
    (programs / "docker").chmod(0o755)


#: By the page's path in the repository. A page that is not named takes nothing for granted.
STAGES: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "README.md": _readme,
    "docs/dashboard.md": _dashboard,
    "docs/deploy-knative.md": _knative,
    "docs/how-to/enqueue.md": _invoices,
    "docs/observability.md": _orders,
    "docs/operations.md": _operations,
    "docs/schedules.md": _schedules,
    "docs/security.md": _roles,
    "docs/triggers.md": _triggers,
    "examples/blueprints/README.md": _blueprints,
    "examples/send_email/README.md": _send_email,
    "templates/function/README.md": _project,
}


async def prepare(page: Path, stage: Stage) -> None:
    """Make what a page takes for granted."""
    await STAGES.get(str(page.relative_to(ROOT)), _nothing)(stage)
