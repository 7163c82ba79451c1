"""The URLs of tasks and of the function apps that list them."""

import pytest

from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings


@pytest.mark.parametrize(
    ("gateway", "by_task", "task", "url", "index"),
    [
        ("http://gateway:8080", {}, "email:send", "http://gateway:8080/email:send", "http://gateway:8080/"),
        ("http://gateway/fn/", {}, "a/b", "http://gateway/fn/a%2Fb", "http://gateway/fn/"),
        ("http://gateway/fn/{task}", {}, "a/b", "http://gateway/fn/a%2Fb", "http://gateway/fn/"),
        ("http://gateway/{task}/run", {}, "mail", "http://gateway/mail/run", "http://gateway/mail/run"),
        ("http://{task}.jobs.svc", {}, "email:send", "http://email-send.jobs.svc", "http://email-send.jobs.svc/"),
        # as `jobfn manifests` writes them
        ("http://{task}.jobs", {"a:b": "http://shop.jobs/a:b"}, "a:b", "http://shop.jobs/a:b", "http://shop.jobs/"),
        ("http://g", {"mail": "http://h/apps/mail?key=1"}, "mail", "http://h/apps/mail?key=1", "http://h/apps/"),
        ("http://g", {"mail": "http://localhost:8081"}, "mail", "http://localhost:8081", "http://localhost:8081/"),
        ("http://g", {"mail": "http://h/mailer"}, "mail", "http://h/mailer", "http://h/mailer"),
    ],
)
def test_task_has_a_url_and_its_app_a_root(
    gateway: str, by_task: dict[str, str], task: str, url: str, index: str
) -> None:
    routes = Routes(gateway, by_task)
    assert (routes.url_for(task), routes.index_url(task)) == (url, index)


def test_roots_of_all_apps_are_listed_once() -> None:
    by_task = {"a": "http://shop.jobs/a", "b": "http://shop.jobs/b", "c": "http://mail.jobs"}
    assert Routes("http://gateway:8080", by_task).index_urls == [
        "http://gateway:8080/",
        "http://shop.jobs/",
        "http://mail.jobs/",
    ]
    assert Routes("http://gateway/fn/{task}", {}).index_urls == ["http://gateway/fn/"]
    assert Routes("http://{task}.jobs", {}).index_urls == []
    assert Routes("http://gateway/{task}/run", {}).index_urls == []


def test_settings_make_the_routes() -> None:
    settings = ServiceSettings.from_environ(
        {
            "KNATIVE_SERVICE_URL": "http://{task}.jobs",
            "JOBS_FUNCTION_URLS": '{"a": "http://shop.jobs/a", "b": "http://shop.jobs/b"}',
            "INTERNAL_GATEWAY_DEVELOPMENT_MAP": '{"b": "http://localhost:8081/b"}',
        }
    )
    routes = Routes.from_settings(settings)
    assert [routes.url_for(task) for task in ("a", "b", "c")] == [
        "http://shop.jobs/a",
        "http://localhost:8081/b",
        "http://c.jobs",
    ]
