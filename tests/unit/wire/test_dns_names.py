import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobfn.errors import ConfigurationError
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS, has_host_per_task, task_url
from jobfn.wire.dns_names import MAX_DNS_NAME_CHARACTERS, dns_name, dns_names

LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("task", "name"),
    [  # never change an expected name: services of that name are deployed
        ("invoice", "invoice"),
        ("process_invoice", "process-invoice"),
        ("email:send_email", "email-send-email"),
        ("Shop/Orders.Ship", "shop-orders-ship"),
        ("__a__b__", "a-b"),
        ("2fa", "t-2fa"),
        ("größe", "gr-e"),
        ("日本", "task-cf2abf0c"),
        ("x" * 50, "x" * 50),
        ("x" * 51, "x" * 41 + "-" + "3ecd502a"),
    ],
)
def test_dns_name_of_a_task_is_stable(task: str, name: str) -> None:
    assert dns_name(task) == name


@settings(deadline=None)  # on a busy machine
@given(st.text(min_size=1, max_size=MAX_TASK_IDENTIFIER_CHARACTERS).filter(str.isprintable))
@example("-" * 126)
@example("0" * 126)
@example("İ" * 60)
@example(("x" * 40) + ("-" * 60))
def test_dns_name_of_any_task_is_a_valid_label(task: str) -> None:
    name = dns_name(task)
    assert LABEL.fullmatch(name)
    assert len(name) <= MAX_DNS_NAME_CHARACTERS


def test_dns_names_rejects_two_tasks_with_the_same_name() -> None:
    with pytest.raises(ConfigurationError) as caught:
        dns_names(["other", "a:b", "a.b"])
    assert str(caught.value).startswith("the tasks 'a:b' and 'a.b' have the same DNS name, 'a-b': rename one")


def test_dns_names_accepts_the_same_task_twice() -> None:
    assert dns_names(["a:b", "c", "a:b"]) == {"a:b": "a-b", "c": "c"}


@pytest.mark.parametrize(
    ("base", "task", "url"),
    [
        ("http://{task}.jobs.svc.cluster.local", "email:send_email", "http://email-send-email.jobs.svc.cluster.local"),
        ("http://{task}.jobs:8080/{task}", "email:send/1", "http://email-send-1.jobs:8080/email:send%2F1"),
        ("http://{task}?t={task}", "a_b", "http://a-b?t=a_b"),
        ("https://g/{task}/", "a_b", "https://g/a_b/"),
        ("http://{task}.jobs", "x@evil.example/", "http://x-evil-example.jobs"),
    ],
)
def test_task_url_has_the_dns_name_in_the_host_and_the_identifier_elsewhere(base: str, task: str, url: str) -> None:
    assert task_url(base, task) == url


@pytest.mark.parametrize(
    ("base", "expected"), [("http://{task}.jobs/x", True), ("http://g/{task}", False), ("http://g", False)]
)
def test_only_a_placeholder_in_the_host_means_a_host_per_task(base: str, *, expected: bool) -> None:
    assert has_host_per_task(base) is expected
