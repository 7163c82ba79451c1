"""Settings of the platform side (contract, section 5)."""

import pytest

from jobfn.errors import ConfigurationError
from jobfn.worker.settings import ServiceSettings


def test_defaults_are_those_of_the_contract() -> None:
    settings = ServiceSettings.from_environ({})
    assert settings.gateway_url == "http://gateway:8080"
    assert settings.development_map == {}
    assert settings.schema_name == "app_jobs"
    assert settings.tasks is None
    assert settings.callback_url == "http://jobs-callback:12345/callback"
    assert settings.callback_port == 12345
    assert settings.worker_id == "worker-0"
    assert settings.database_url is None
    assert settings.concurrency == 16


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"INTERNAL_GATEWAY_URL": "http://b"}, "gateway_url", "http://b"),
        ({"KNATIVE_SERVICE_URL": "http://a", "INTERNAL_GATEWAY_URL": "http://b"}, "gateway_url", "http://a"),
        ({"KNATIVE_SERVICE_URL": "", "INTERNAL_GATEWAY_URL": "http://b"}, "gateway_url", "http://b"),
        (
            {
                "JOBS_FUNCTION_URLS": '{"t": "http://t", "u": "http://u"}',
                "INTERNAL_GATEWAY_DEVELOPMENT_MAP": '{"t": "http://here"}',
            },
            "urls_by_task",
            {"t": "http://here", "u": "http://u"},
        ),
        ({"JOBS_SCHEMA": "work"}, "schema_name", "work"),
        ({"JOBS_HISTORY_DAYS": "0"}, "history_days", 0.0),
        ({}, "failed_days", None),
        ({"JOBS_FAILED_DAYS": "90"}, "failed_days", 90.0),
        ({}, "completed_payload_days", 0.0),
        ({"JOBS_COMPLETED_PAYLOAD_DAYS": "1.5"}, "completed_payload_days", 1.5),
        ({"JOBS_VACUUM": "false"}, "vacuum", False),
        ({"JOBS_SUPPORT_ANY": "false", "JOBS_SUPPORTED": "a, b:c,,d"}, "tasks", ["a", "b:c", "d"]),
        ({"JOBS_SUPPORTED": "a"}, "tasks", None),
        ({"INTERNAL_JOBS_CALLBACK_URL": "http://c/x/callback"}, "callback_url", "http://c/x/callback"),
        (
            {"JOBS_CALLBACK_HOST": "here", "INTERNAL_JOBS_CALLBACK_PORT": "99"},
            "callback_url",
            "http://here:99/callback",
        ),
        ({}, "queue_names", None),
        ({"JOBS_QUEUES": "mail, none"}, "queue_names", ["mail", ""]),
        ({"HOSTNAME": "pod-7"}, "worker_id", "pod-7"),
        ({"DATABASE_URL": "postgresql://x/y"}, "database_url", "postgresql://x/y"),
        ({"JOBS_CONCURRENCY": "3"}, "concurrency", 3),
    ],
)
def test_variable_sets_its_field(environ: dict[str, str], field: str, value: object) -> None:
    assert getattr(ServiceSettings.from_environ(environ), field) == value


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"JOBS_SUPPORT_ANY": "perhaps"}, "JOBS_SUPPORT_ANY='perhaps'"),
        ({"INTERNAL_JOBS_CALLBACK_PORT": "70000"}, "INTERNAL_JOBS_CALLBACK_PORT='70000'"),
        ({"INTERNAL_GATEWAY_DEVELOPMENT_MAP": "{"}, "INTERNAL_GATEWAY_DEVELOPMENT_MAP='{'"),
        ({"INTERNAL_GATEWAY_DEVELOPMENT_MAP": '{"t": 1}'}, "INTERNAL_GATEWAY_DEVELOPMENT_MAP"),
        ({"JOBS_FUNCTION_URLS": "{"}, "JOBS_FUNCTION_URLS='{'"),
        ({"JOBS_FUNCTION_URLS": '{"t": "t:80"}'}, "the URL of 't' must begin with http:// or https://"),
        (
            {"KNATIVE_SERVICE_URL": "http://{task}.jobs", "JOBS_SUPPORTED": "a:b,a.b"},
            "KNATIVE_SERVICE_URL='http://{task}.jobs': the tasks 'a:b' and 'a.b' have the same DNS name",
        ),
        ({"KNATIVE_SERVICE_URL": "gateway:8080"}, "KNATIVE_SERVICE_URL='gateway:8080': must be a URL"),
        ({"INTERNAL_GATEWAY_URL": "ftp://x"}, "='ftp://x': must be a URL"),
        ({"HOSTNAME": "w"}, "HOSTNAME='w': must have at least 4 characters"),
        ({"JOBS_SCHEMA": "x" * 64}, "JOBS_SCHEMA="),
        ({"JOBS_CONCURRENCY": "0"}, "JOBS_CONCURRENCY='0'"),
    ],
)
def test_invalid_value_is_one_line_that_names_its_variable(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ServiceSettings.from_environ(environ)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_arguments_take_precedence_over_the_environment_unless_none() -> None:
    environ = {"JOBS_CONCURRENCY": "3", "HOSTNAME": "pod-7"}
    settings = ServiceSettings.from_environ(environ, concurrency=5, worker_id=None)
    assert (settings.concurrency, settings.worker_id) == (5, "pod-7")


@pytest.mark.parametrize(
    "environ",
    [
        {"KNATIVE_SERVICE_URL": "http://gateway/{task}"},
        {"KNATIVE_SERVICE_URL": "http://{task}.jobs", "JOBS_FUNCTION_URLS": '{"a:b": "http://elsewhere/a:b"}'},
    ],
)
def test_tasks_with_the_same_dns_name_are_valid_if_their_hosts_differ(environ: dict[str, str]) -> None:
    settings = ServiceSettings.from_environ(environ | {"JOBS_SUPPORTED": "a:b,a.b"})
    assert settings.supported == ["a:b", "a.b"]
