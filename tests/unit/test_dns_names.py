"""Task identifiers as DNS names: the same in manifests and in the worker."""

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
    [
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
def test_a_task_s_dns_name(task: str, name: str) -> None:
    """Names in the table are for ever: services of that name are out there."""
    assert dns_name(task) == name


@settings(deadline=None)  # on a busy machine
@given(st.text(min_size=1, max_size=MAX_TASK_IDENTIFIER_CHARACTERS).filter(str.isprintable))
@example("-" * 126)
@example("0" * 126)
@example("İ" * 60)
@example(("x" * 40) + ("-" * 60))
def test_every_task_has_a_label_of_dns(task: str) -> None:
    """Whatever the identifier: a Kubernetes service can have that name, with room for a revision's number."""
    name = dns_name(task)
    assert LABEL.fullmatch(name)
    assert len(name) <= MAX_DNS_NAME_CHARACTERS


def test_two_tasks_of_one_name_are_refused() -> None:
    """Both are named, and what to do."""
    with pytest.raises(ConfigurationError) as caught:
        dns_names(["other", "a:b", "a.b"])
    assert str(caught.value).startswith("the tasks 'a:b' and 'a.b' have the same DNS name, 'a-b': rename one")


def test_the_same_task_twice_is_no_collision() -> None:
    """Each task has its name."""
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
def test_a_task_in_a_url(base: str, task: str, url: str) -> None:
    """In the host it is the DNS name, so that no identifier names another host; elsewhere it is percent-encoded."""
    assert task_url(base, task) == url


@pytest.mark.parametrize(
    ("base", "found"), [("http://{task}.jobs/x", True), ("http://g/{task}", False), ("http://g", False)]
)
def test_whether_a_gateway_has_a_host_per_task(base: str, found: bool) -> None:  # noqa: FBT001  - a column of the table
    """Only a place in the host counts."""
    assert has_host_per_task(base) is found
