"""The example that mounts job functions in a FastAPI app, as a process with a real worker's requests."""

from pathlib import Path

import httpx

from support.commands import Spawn
from support.docs.blocks import ROOT
from support.fixtures import StartService
from support.function_app import CallbackServer, job_headers
from support.jobs import Jobs
from support.network import LOOPBACK, free_port

APP: Path = ROOT / "examples" / "fastapi_app" / "app.py"


async def start(spawn: Spawn) -> str:
    port = free_port()
    process = await spawn("jobfn", "serve", f"{APP}:app", "--host", LOOPBACK, "--port", str(port))
    await process.until("serving")
    return f"http://{LOOPBACK}:{port}"


async def test_mounted_functions_run_and_report_beside_the_routes_of_the_app(
    spawn: Spawn, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await start(spawn)
    headers = job_headers(callbacks.url)
    response = await http.post(f"{url}/jobs/make_receipt", json={"id": 1, "total": 9.9}, headers=headers)
    assert (response.status_code, response.json()) == (200, {"receipt": 1})
    await callbacks.wait_for(1)
    assert callbacks.bodies("/callback") == [{"status": "success"}]
    invalid = await http.post(f"{url}/jobs/make_receipt", json={"id": 1}, headers=headers)
    assert (invalid.status_code, invalid.headers["x-job-error"]) == (422, "true")
    assert (await http.get(f"{url}/receipts")).json() == [{"id": 1, "total": 9.9}]
    assert (await http.get(f"{url}/jobs/health")).json() == {"status": "ok"}
    [listed] = (await http.get(f"{url}/jobs/")).json()["tasks"]
    assert listed["identifier"] == "make_receipt"


async def test_worker_delivers_jobs_to_the_prefix(
    spawn: Spawn, http: httpx.AsyncClient, jobs: Jobs, start_service: StartService
) -> None:
    url = await start(spawn)
    await start_service(f"{url}/jobs")
    for number in (1, 2):
        await jobs.until_gone(await jobs.add("make_receipt", {"id": number, "total": 1.5}))
    assert (await http.get(f"{url}/receipts")).json() == [{"id": 1, "total": 1.5}, {"id": 2, "total": 1.5}]
