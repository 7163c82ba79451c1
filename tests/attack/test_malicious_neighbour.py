"""A network neighbour of functions: it has no invoke secret, or that of another function."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from jobfn import FunctionApp, JobContext, create_app, task
from jobfn.dashboard.task_discovery import TaskDiscovery
from jobfn.function.settings import FunctionSettings
from jobfn.http.loopback import LoopbackGuard
from jobfn.worker.invoke_secrets import InvokeSecrets, derive_secret
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings
from support.fixtures import Serve, StartService
from support.jobs import TENANT, Jobs
from support.secrets import INVOKE_SECRET, OTHER_INVOKE_SECRET

KEY = "derives-the-secrets-of-functions-0123456789"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


def secret_app(*secrets: str) -> FunctionApp:
    @task("charge_card")
    async def charge_card(payload: Any) -> None:
        """Charge a card."""

    return create_app(tasks=[charge_card], settings=FunctionSettings(invoke_secrets=list(secrets)))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("HEAD", "/"), ("GET", "/metrics"), ("GET", "/missing"), ("PUT", "/charge_card"), ("PUT", "/")],
)
@pytest.mark.parametrize("headers", [{}, {"X-Invoke-Secret": "x" * 32}, {"Authorization": f"Bearer {'x' * 32}"}])
async def test_stranger_learns_no_task(
    method: str, path: str, headers: dict[str, str], serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(secret_app(INVOKE_SECRET))
    response = await http.request(method, url + path, headers=headers)
    assert (response.status_code, "charge" in response.text) == (401, False)


@pytest.mark.parametrize(
    "headers", [{"X-Invoke-Secret": INVOKE_SECRET}, {"Authorization": f"bearer {INVOKE_SECRET}"}], ids=["own", "bearer"]
)
async def test_reader_with_the_secret_gets_tasks_and_metrics(
    headers: dict[str, str], serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(secret_app(OTHER_INVOKE_SECRET, INVOKE_SECRET))
    listing = await http.get(url, headers=headers)
    metrics = await http.get(f"{url}/metrics", headers=headers)
    assert [each["identifier"] for each in listing.json()["tasks"]] == ["charge_card"]
    assert (metrics.status_code, "jobfn_function_jobs_total" in metrics.text) == (200, True)


async def test_probes_need_no_secret(serve: Serve, http: httpx.AsyncClient) -> None:
    url = await serve(secret_app(INVOKE_SECRET))
    for path in ("/healthz", "/readyz", "/health"):
        response = await http.get(url + path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("variable", ["JOBFN_INVOKE_SECRET", "JOBFN_INVOKE_KEY"])
async def test_dashboard_lists_the_tasks_of_a_function_with_a_secret(variable: str, serve: Serve) -> None:
    app = secret_app(OTHER_INVOKE_SECRET)
    url = await serve(app)
    value = OTHER_INVOKE_SECRET
    if variable == "JOBFN_INVOKE_KEY":
        value = KEY
        app.settings.invoke_secrets[:] = [derive_secret(KEY, url)]
    settings = ServiceSettings.from_environ({variable: value, "KNATIVE_SERVICE_URL": url})
    discovery = TaskDiscovery(Routes.from_settings(settings))
    listing = await discovery.list_tasks()
    await discovery.aclose()
    assert (list(listing.tasks), listing.problems) == (["charge_card"], ())


async def test_secret_of_one_function_does_not_call_another(
    jobs: Jobs, serve: Serve, start_service: StartService, http: httpx.AsyncClient
) -> None:
    apps, ran = {}, []
    for name in ("first", "second"):

        @task(name)
        async def run(payload: Any, ctx: JobContext) -> None:
            ran.append(ctx.task)

        apps[name] = create_app(tasks=[run], settings=FunctionSettings(invoke_secrets=[INVOKE_SECRET]))
    urls = {name: await serve(app) for name, app in apps.items()}
    for name, app in apps.items():
        app.settings.invoke_secrets[:] = [derive_secret(KEY, urls[name])]
    await start_service(urls["first"], function_urls={"second": f"{urls['second']}/second"}, invoke_keys=KEY)
    await jobs.until_gone(await jobs.add("first"), await jobs.add("second"))
    assert sorted(ran) == ["first", "second"]
    stolen = {"X-Invoke-Secret": derive_secret(KEY, urls["first"])}
    response = await http.post(f"{urls['second']}/second", json={}, headers=stolen)
    assert (response.status_code, len(ran)) == (401, 2)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://Orders.jobs/a/b?c", True),
        ("http://user:password@orders.jobs:80/", True),
        ("https://orders.jobs/", False),
        ("http://orders.jobs:8080/", False),
        ("http://emails.jobs/orders.jobs", False),
    ],
)
def test_derived_secret_depends_on_the_origin_and_the_key(url: str, *, same: bool) -> None:
    secret = derive_secret(KEY, "http://orders.jobs")
    assert len(bytes.fromhex(secret)) == 32
    assert (derive_secret(KEY, url) == secret) is same
    assert derive_secret(KEY + "x", "http://orders.jobs") != secret


def test_malformed_url_gets_no_secret() -> None:
    assert InvokeSecrets(keys=[KEY]).for_url("http://[") is None
    assert InvokeSecrets(keys=[KEY]).for_url("http://h:x/") is None
    assert InvokeSecrets().for_url("http://h/") is None


@task("tenant_of")
async def tenant_of(payload: Any, ctx: JobContext) -> Any:
    return await ctx.db.fetchval("select current_setting('jwt.claims.database_id')")


@pytest.mark.parametrize("batch", [False, True])
async def test_stranger_cannot_choose_the_tenant_of_the_database(
    database: str, serve: Serve, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, *, batch: bool
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    url = await serve(create_app(tasks=[tenant_of]))
    headers = {"X-Database-Id": TENANT, "X-Worker-Id": "w", "X-Job-Id": "1"}
    if batch:
        sent = headers | {"Content-Type": "application/x-ndjson"}
        response = await http.post(f"{url}/tenant_of/batch", content=b'{"X-Job-Id": "1"}\n{}\n', headers=sent)
        assert (response.json()["status"], "JOBFN_DB_ANY_CALLER=true" in response.json()["body"]) == (500, True)
    else:
        response = await http.post(f"{url}/tenant_of", json={}, headers=headers)
        assert (response.status_code, TENANT in response.text) == (500, False)
        assert response.json()["message"] == (
            "ctx.db is not available: without JOBFN_INVOKE_SECRET, any caller of this function can choose the tenant "
            "(X-Database-Id). Set JOBFN_INVOKE_SECRET on the worker and the function, or JOBFN_DB_ANY_CALLER=true if "
            "only the worker can reach the function"
        )


@task("explode")
async def explode(_payload: Any) -> None:
    raise ValueError("boom")


@pytest.mark.parametrize("batch", [False, True])
async def test_stranger_gets_no_lines_of_code(serve: Serve, http: httpx.AsyncClient, *, batch: bool) -> None:
    url = await serve(create_app(tasks=[explode]))
    headers = {"X-Worker-Id": "w", "X-Job-Id": "1"}
    if batch:
        sent = headers | {"Content-Type": "application/x-ndjson"}
        response = await http.post(f"{url}/explode/batch", content=b'{"X-Job-Id": "1"}\n{}\n', headers=sent)
    else:
        response = await http.post(f"{url}/explode", json={}, headers=headers)
    assert ("boom" in response.text, "raise ValueError" in response.text) == (True, False)


@pytest.mark.parametrize("trusted_by", ["secret", "setting", "loopback"])
async def test_worker_chooses_the_tenant_of_the_database(
    trusted_by: str, database: str, serve: Serve, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    settings = FunctionSettings(
        invoke_secrets=[INVOKE_SECRET] if trusted_by == "secret" else [], db_any_caller=trusted_by == "setting"
    )
    app = create_app(tasks=[tenant_of], settings=settings)
    url = await serve(LoopbackGuard(app) if trusted_by == "loopback" else app)
    response = await http.post(url, json={}, headers={"X-Database-Id": TENANT, "X-Invoke-Secret": INVOKE_SECRET})
    assert (response.status_code, response.json()) == (200, TENANT)
