"""Signed callback URLs."""

from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from jobfn.worker.http_dispatch import callback_tokens
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.tokens import CallbackTokens, Claim, SignedClaim

CLAIM = Claim("worker-0", 12, 3)


def signed_path(*secrets: str, url: str = "http://host/callback") -> str:
    return urlsplit(CallbackTokens(secrets, max_age_seconds=60).url_for(url, CLAIM)).path


def verify(path: str, *secrets: str) -> Claim | None:
    signed = CallbackTokens(secrets, max_age_seconds=60).verify(path)
    return None if signed is None else signed.claim


@pytest.mark.parametrize(
    ("url", "before", "after"),
    [
        ("http://host:1/callback", "http://host:1/", "/callback"),
        ("http://host:1", "http://host:1/", "/callback"),
        ("http://host:1/", "http://host:1/", "/callback"),
        ("https://gateway/jobs/callback?tenant=1", "https://gateway/jobs/", "/callback?tenant=1"),
    ],
)
def test_token_precedes_the_last_segment(url: str, before: str, after: str) -> None:
    signed = CallbackTokens(["key"], max_age_seconds=60).url_for(url, CLAIM)
    assert signed.startswith(before)
    assert signed.endswith(after)
    assert verify(urlsplit(signed).path, "key") == CLAIM


def test_first_key_signs_and_all_keys_are_accepted() -> None:
    assert verify(signed_path("old"), "new", "old") == CLAIM
    assert verify(signed_path("old"), "new") is None
    assert verify(signed_path("new", "old"), "old") is None


@pytest.mark.parametrize("path", ["/callback", "/", "", "/x/callback", "/a.b.c/callback", "//callback", "/é/callback"])
def test_path_without_a_token_is_invalid(path: str) -> None:
    assert verify(path, "key") is None


@pytest.mark.parametrize(("age_seconds", "has_expired"), [(0, False), (60, False), (61, True), (86_400, True)])
def test_token_expires_after_its_ttl(age_seconds: int, *, has_expired: bool) -> None:
    now = 1_800_000_000.0
    path = urlsplit(
        CallbackTokens(["key"], max_age_seconds=60, clock=lambda: now).url_for("http://host/callback", CLAIM)
    ).path
    later = CallbackTokens(["key"], max_age_seconds=60, clock=lambda: now + age_seconds)
    assert later.verify(path) == SignedClaim(CLAIM, has_expired=has_expired)


def test_changed_token_is_invalid() -> None:
    path = signed_path("key")
    for index in range(1, path.rindex("/") - 1):
        other = "A" if path[index] != "A" else "B"
        assert verify(path[:index] + other + path[index + 1 :], "key") is None


@pytest.mark.parametrize(
    ("environ", "warnings"),
    [
        ({"K_SERVICE": "jobs"}, 1),
        ({"JOBFN_ENV": "production"}, 1),
        ({"JOBFN_ENV": "production", "JOBS_CALLBACK_SECRET": "one"}, 0),
        ({}, 0),
    ],
)
def test_unsigned_callback_urls_are_a_warning_in_production(environ: dict[str, str], warnings: int) -> None:
    with capture_logs() as lines:
        callback_tokens(ServiceSettings.from_environ(environ))
    assert ["Set JOBS_CALLBACK_SECRET" in line["event"] for line in lines] == [True] * warnings
