"""The images: what is in them, how they run, and a job that goes through them."""

import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from support.commands import Command, Spawn
from support.images import ROOT, Image
from support.jobs import Jobs
from support.network import free_port

MEGABYTE = 1_000_000
LOOPBACK = "127.0.0.1"
ORDER = {"id": 7, "total": "9.90"}
MAIL = {"to": "ada@example.com", "subject": "Hello", "text": "It works."}


@pytest.fixture(params=["template_image", "example_image", "service_image"])
def image(request: pytest.FixtureRequest) -> Image:
    found: Image = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["template_image", "example_image"])
def function_image(request: pytest.FixtureRequest) -> Image:
    found: Image = request.getfixturevalue(request.param)
    return found


def locked(path: Path) -> set[str]:
    """The packages that a lock names, but for those of other systems."""
    return {name.replace("_", "-") for name in re.findall(r"^([a-z0-9-]+)==", path.read_text(), re.MULTILINE)}


def installed(image: Image) -> set[str]:
    """The packages in an image."""
    folders = image.root.glob("opt/venv/lib/python3*/site-packages/*.dist-info")
    return {folder.name.partition("-")[0].lower().replace("_", "-") for folder in folders}


def test_what_jobfn_build_says(template_image: Image) -> None:
    """The tasks first, as `jobfn check` lists them; then the command that it runs, word for word."""
    said = template_image.said
    assert said.startswith("email:welcome  Put your work here.")
    assert "$ buildah build --format docker --tag localhost/my-function --pull=never" in said


def test_a_function_s_own_layers_are_small(function_image: Image) -> None:
    """Under 60 MB over the base, uncompressed."""
    size = sum(layer.stat().st_size for layer in function_image.own_layers)
    print(f"{function_image.tag}: {size / MEGABYTE:.1f} MB over its base")  # noqa: T201  - for `make image` to show
    assert 0 < size < 60 * MEGABYTE


def test_there_is_nothing_else_in_the_layers(image: Image) -> None:
    """Packages, and a function's code: no pip and no cache of it, no tests, no secrets by chance."""
    places = {"/".join(name.split("/")[:2]) for name in image.own_files}
    assert places <= {"opt/venv", "app/functions.py", "app/__pycache__"}
    assert "opt/venv" in places
    assert not list(image.root.glob("opt/venv/lib/python3*/site-packages/pip*"))
    assert not list(image.root.glob("root/.cache/*"))
    assert not [name for name in ("gcc", "cc", "clang", "make") if list(image.root.glob(f"usr/bin/{name}"))]


@pytest.mark.parametrize(
    ("name", "lock"),
    [
        ("template_image", "templates/function/requirements.lock"),
        ("example_image", "examples/send_email/requirements.lock"),
        ("service_image", "locks/service.txt"),
    ],
)
def test_what_is_installed_is_what_the_lock_names(name: str, lock: str, request: pytest.FixtureRequest) -> None:
    """Exactly that, and jobfn."""
    elsewhere = {"colorama", "pywin32"}  # for Windows alone
    assert installed(request.getfixturevalue(name)) - {"jobfn"} == locked(ROOT / lock) - elsewhere


def test_everything_is_compiled(image: Image) -> None:
    """Each Python file has its bytecode, which nobody compares with the file again."""
    sources = [path for folder in ("opt/venv/lib", "app") for path in (image.root / folder).rglob("*.py")]
    assert len(sources) > 100
    compiled = [list((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc")) for path in sources]
    assert [path for path, found in zip(sources, compiled, strict=True) if not found] == []
    # PEP 552: flag 0b01, hash-based and not checked
    assert {found[0].read_bytes()[4:8] for found in compiled} == {b"\1\0\0\0"}


def test_the_image_says_what_it_is(image: Image) -> None:
    """A numeric user that is not root, a command without a shell, a health check, labels of the OCI's names."""
    config = image.config
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"][:2] == ["python", "-m"]
    assert config["StopSignal"] == "SIGTERM"
    assert image.health_command[:2] == ["python", "-c"]
    labels = {name.rpartition(".")[2] for name in config["Labels"] if name.startswith("org.opencontainers.image.")}
    assert {"title", "description", "version", "revision"} <= labels


async def test_nothing_can_be_written(image: Image, command: Command) -> None:
    """What the other tests call read-only is so, even for root."""
    tried = await command(*image.command("touch", "/app-or-not", user="0:0"))
    assert (tried.code, "Read-only file system" in tried.output) == (1, True), tried.output


async def test_a_job_goes_through_the_function(
    template_image: Image, jobs: Jobs, database: str, spawn: Spawn, tmp_path: Path
) -> None:
    """Row, worker, the service's DNS name, the container's own command on a read-only file system, report: all done."""
    port = free_port()
    function = await spawn(*template_image.command(PORT=str(port)))
    await function.until("serving")
    hosts = tmp_path / "hosts"  # what the cluster's DNS would say, for the worker alone
    hosts.write_text(f"{LOOPBACK} localhost {template_image.service_name}.jobs.svc.cluster.local\n")
    service = await spawn(
        *("unshare", "--mount", "/bin/sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$0" -m jobfn.service'),
        sys.executable,
        DATABASE_URL=database,
        KNATIVE_SERVICE_URL=f"http://{{task}}.jobs.svc.cluster.local:{port}",
        JOBS_CALLBACK_HOST=LOOPBACK,
        INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
    )
    await service.until("looking for jobs")
    await jobs.until_gone(await jobs.add("email:welcome", ORDER))
    assert '"order": 7' in await function.until("handling order")
    await service.until('"job done"')
    failed = await jobs.until_failed(await jobs.add("email:welcome", ORDER | {"total": "0"}))
    assert failed["last_error"] == "order 7 has a total of 0: there is nothing to charge"


async def test_a_job_goes_through_both_images(
    example_image: Image, service_image: Image, jobs: Jobs, database_on_tcp: str, spawn: Spawn
) -> None:
    """The platform side is a container too: its own command takes the job, and hears the report."""
    port = free_port()
    function = await spawn(*example_image.command(PORT=str(port), SEND_EMAIL_DRY_RUN="true"))
    await function.until("serving")
    service = await spawn(
        *service_image.command(
            DATABASE_URL=database_on_tcp,
            KNATIVE_SERVICE_URL=f"http://{LOOPBACK}:{port}",
            JOBS_CALLBACK_HOST=LOOPBACK,
            INTERNAL_JOBS_CALLBACK_PORT=str(free_port()),
        )
    )
    await service.until("looking for jobs")
    await jobs.until_gone(await jobs.add("send_email", MAIL))
    await function.until("dry run: mail not sent")
    await service.until('"job done"')
    service.send(signal.SIGTERM)
    assert await service.wait() == 0


async def test_the_service_image_has_the_command_line(
    service_image: Image, empty_database_on_tcp: str, command: Command
) -> None:
    """`jobfn db migrate`, from the image that is in the cluster anyway."""
    migrated = await command(*service_image.command("jobfn", "db", "migrate", DATABASE_URL=empty_database_on_tcp))
    assert (migrated.code, "schema app_jobs is up to date" in migrated.output) == (0, True), migrated.output


async def test_the_health_check_knows_a_server_from_none(function_image: Image, spawn: Spawn, command: Command) -> None:
    """HEALTHCHECK's own command: 0 while the server answers at PORT, 1 when there is none."""
    port = str(free_port())
    assert (await command(*function_image.command(*function_image.health_command, PORT=port))).code == 1
    function = await spawn(*function_image.command(PORT=port))
    await function.until("serving")
    checked = await command(*function_image.command(*function_image.health_command, PORT=port))
    assert checked.code == 0, checked.output


async def test_the_service_s_health_check(
    service_image: Image, database_on_tcp: str, spawn: Spawn, command: Command
) -> None:
    """The same for the callback server, at its own port."""
    port = str(free_port())
    check = service_image.command(*service_image.health_command, INTERNAL_JOBS_CALLBACK_PORT=port)
    assert (await command(*check)).code == 1
    service = await spawn(*service_image.command(INTERNAL_JOBS_CALLBACK_PORT=port, DATABASE_URL=database_on_tcp))
    await service.until("looking for jobs")
    assert (await command(*check)).code == 0


async def test_sigterm_reaches_process_one(function_image: Image, spawn: Spawn) -> None:
    """As process 1 of its namespace, which a signal without a handler would not end: it stops and exits with 0."""
    function = await spawn(*function_image.command(alone=True, PORT=str(free_port())))
    await function.until("serving")
    (server,) = psutil.Process(function.process.pid).children()
    assert server.uids().real == 65532
    os.kill(server.pid, signal.SIGTERM)
    await function.until('"stopped"')
    assert await function.wait() == 0
