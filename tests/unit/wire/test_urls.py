"""URLs of reports and deliveries (contract, sections 1 and 2). Task URLs with a host per task: test_dns_names.py."""

import pytest

from jobfn.wire import attempt_url, query_parameter, report_url, task_url


@pytest.mark.parametrize(
    ("callback_url", "expected"),
    [
        ("http://jobs-callback:12345", "http://jobs-callback:12345/callback"),
        ("http://jobs-callback:12345/", "http://jobs-callback:12345/callback"),
        ("http://h?x=1", "http://h/callback?x=1"),
        ("http://h/?x=1&y=%2F", "http://h/callback?x=1&y=%2F"),
        ("http://h/callback", "http://h/callback"),
        ("http://h/callback/", "http://h/callback/"),
        ("https://h/api/jobs?token=a%20b", "https://h/api/jobs?token=a%20b"),
        ("HTTP://h/a%2Fb:c@d//e", "http://h/a%2Fb:c@d//e"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://user:pw@h/x", "http://user:pw@h/x"),
        ("http://h/x#fragment", "http://h/x"),
        ("http://h/a b?ü", "http://h/a%20b?%C3%BC"),
    ],
)
def test_report_url_adds_callback_only_without_a_path(callback_url: str, expected: str) -> None:
    assert report_url(callback_url) == expected


@pytest.mark.parametrize(
    "callback_url",
    [
        "ftp://h/callback",
        "/callback",
        "callback",
        "http://",
        "http://:80/x",
        "http:///callback",
        "http://h:0/x",
        "http://h:99999/x",
        "http://h:abc/x",
        "http://[::1/x",
        "http://jöbs/callback",
        "javascript:alert(1)",
        "http://a b/x",
    ],
)
def test_report_url_rejects_other_than_absolute_http_urls(callback_url: str) -> None:
    with pytest.raises(ValueError, match=r"X-Callback-Url must be an absolute http\(s\) URL"):
        report_url(callback_url)


@pytest.mark.parametrize(
    ("base", "task", "expected"),
    [
        ("http://gateway:8080", "process_invoice", "http://gateway:8080/process_invoice"),
        ("http://gateway:8080/", "email:send_email", "http://gateway:8080/email:send_email"),
        ("http://g/fn", "a/b c?d#e%f", "http://g/fn/a%2Fb%20c%3Fd%23e%25f"),
        ("http://g", "größe", "http://g/gr%C3%B6%C3%9Fe"),
        ("http://{task}.svc/run", "send", "http://send.svc/run"),
        ("http://g/{task}/x", "a/b", "http://g/a%2Fb/x"),
    ],
)
def test_task_url_is_one_encoded_segment_or_fills_the_placeholder(base: str, task: str, expected: str) -> None:
    assert task_url(base, task) == expected


@pytest.mark.parametrize(
    ("callback_url", "expected"),
    [
        ("http://h/callback", "http://h/callback?attempt=3&/callback"),
        ("http://h/api/callback?tenant=1", "http://h/api/callback?tenant=1&attempt=3&/callback"),
    ],
)
def test_attempt_is_in_the_query_of_a_callback_url(callback_url: str, expected: str) -> None:
    url = attempt_url(callback_url, 3)
    assert url == expected
    assert report_url(url) == url
    assert query_parameter(url.partition("?")[2], "attempt") == "3"


@pytest.mark.parametrize("query", ["", "tenant=1", "attempts=3", "x=attempt=3"])
def test_query_without_an_attempt(query: str) -> None:
    assert query_parameter(query, "attempt") is None
