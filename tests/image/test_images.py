"""Content and commands of the images, and jobs that run in them."""

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
    image: Image = request.getfixturevalue(request.param)
    return image


@pytest.fixture(params=["template_image", "example_image"])
def function_image(request: pytest.FixtureRequest) -> Image:
    image: Image = request.getfixturevalue(request.param)
    return image


def locked_packages(path: Path) -> set[str]:
    """Return the packages of a lock."""
    return {name.replace("_", "-") for name in re.findall(r"^([a-z0-9-]+)==", path.read_text(), re.MULTILINE)}


def installed_packages(image: Image) -> set[str]:
    """Return the packages in an image."""
    folders = image.root.glob("opt/venv/lib/python3*/site-packages/*.dist-info")
    return {folder.name.partition("-")[0].lower().replace("_", "-") for folder in folders}


def test_build_prints_tasks_and_command(template_image: Image) -> None:
    output = template_image.build_output
    assert output.startswith("email:welcome  Handle an order: replace this with your work.")
    assert "$ buildah build --format docker --tag localhost/my-function --pull=never" in output


def test_function_adds_less_than_60_mb(function_image: Image) -> None:
    size = sum(layer.stat().st_size for layer in function_image.own_layers)
    print(f"{function_image.tag}: {size / MEGABYTE:.1f} MB over its base")  # noqa: T201  - shown by `make image`
    assert 0 < size < 60 * MEGABYTE


def test_layers_contain_packages_and_code_only(image: Image) -> None:
    folders = {"/".join(name.split("/")[:2]) for name in image.own_files}
    assert folders <= {"opt/venv", "app/functions.py", "app/__pycache__"}
    assert "opt/venv" in folders
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
def test_image_has_the_packages_of_its_lock(name: str, lock: str, request: pytest.FixtureRequest) -> None:
    windows_only = {"colorama", "pywin32"}
    assert installed_packages(request.getfixturevalue(name)) - {"jobfn"} == locked_packages(ROOT / lock) - windows_only


def test_all_code_has_unchecked_bytecode(image: Image) -> None:
    sources = [path for folder in ("opt/venv/lib", "app") for path in (image.root / folder).rglob("*.py")]
    assert len(sources) > 100
    compiled = [list((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc")) for path in sources]
    assert [path for path, files in zip(sources, compiled, strict=True) if not files] == []
    # PEP 552: flag 0b01, hash-based and not checked
    assert {files[0].read_bytes()[4:8] for files in compiled} == {b"\1\0\0\0"}


def test_image_config_has_user_entrypoint_and_labels(image: Image) -> None:
    config = image.config
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"][:2] == ["python", "-m"]
    assert config["StopSignal"] == "SIGTERM"
    assert image.health_command[:2] == ["python", "-c"]
    labels = {name.rpartition(".")[2] for name in config["Labels"] if name.startswith("org.opencontainers.image.")}
    assert {"title", "description", "version", "revision"} <= labels


async def test_file_system_is_read_only(image: Image, command: Command) -> None:
    """The other tests rely on it."""
    result = await command(*image.command("touch", "/file", user="0:0"))
    assert (result.code, "Read-only file system" in result.output) == (1, True), result.output


async def test_job_runs_in_the_function_image(
    template_image: Image, jobs: Jobs, database: str, spawn: Spawn, tmp_path: Path
) -> None:
    port = free_port()
    function = await spawn(*template_image.command(PORT=str(port)))
    await function.until("serving")
    hosts = tmp_path / "hosts"  # replaces the cluster's DNS for the worker
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
    assert '"order":7' in await function.until("handling order")
    await service.until('"job done"')
    failed = await jobs.until_failed(await jobs.add("email:welcome", ORDER | {"total": "0"}))
    assert failed["last_error"] == "order 7 has a total of 0: there is nothing to charge"


async def test_job_runs_with_function_and_service_images(
    example_image: Image, service_image: Image, jobs: Jobs, database_on_tcp: str, spawn: Spawn
) -> None:
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


async def test_service_image_can_migrate_the_schema(
    service_image: Image, empty_database_on_tcp: str, command: Command
) -> None:
    result = await command(*service_image.command("jobfn", "db", "migrate", DATABASE_URL=empty_database_on_tcp))
    assert (result.code, "schema app_jobs is up to date" in result.output) == (0, True), result.output


async def test_function_health_check_fails_without_a_server(
    function_image: Image, spawn: Spawn, command: Command
) -> None:
    port = str(free_port())
    assert (await command(*function_image.command(*function_image.health_command, PORT=port))).code == 1
    function = await spawn(*function_image.command(PORT=port))
    await function.until("serving")
    result = await command(*function_image.command(*function_image.health_command, PORT=port))
    assert result.code == 0, result.output


async def test_service_health_check_fails_without_a_server(
    service_image: Image, database_on_tcp: str, spawn: Spawn, command: Command
) -> None:
    port = str(free_port())
    check = service_image.command(*service_image.health_command, JOBS_HEALTH_PORT=port)
    assert (await command(*check)).code == 1
    service = await spawn(
        *service_image.command(
            JOBS_HEALTH_PORT=port, INTERNAL_JOBS_CALLBACK_PORT=str(free_port()), DATABASE_URL=database_on_tcp
        )
    )
    await service.until("looking for jobs")
    assert (await command(*check)).code == 0


async def test_sigterm_stops_process_one(function_image: Image, spawn: Spawn) -> None:
    """The kernel ignores signals to process 1 that have no handler."""
    function = await spawn(*function_image.command(as_init=True, PORT=str(free_port())))
    await function.until("serving")
    (server,) = psutil.Process(function.process.pid).children()
    assert server.uids().real == 65532
    os.kill(server.pid, signal.SIGTERM)
    await function.until('"stopped"')
    assert await function.wait() == 0
