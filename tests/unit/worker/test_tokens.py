"""Signed callback URLs."""

from urllib.parse import urlsplit

import pytest

from jobfn.worker.tokens import CallbackTokens, Claim

CLAIM = Claim("worker-0", 12, 3)


@pytest.mark.parametrize(
    ("url", "before", "after"),
    [
        ("http://host:1/callback", "http://host:1/", "/callback"),
        ("http://host:1", "http://host:1/", "/callback"),
        ("http://host:1/", "http://host:1/", "/callback"),
        ("https://gateway/jobs/callback?tenant=1", "https://gateway/jobs/", "/callback?tenant=1"),
    ],
)
def test_the_token_stands_before_the_last_segment(url: str, before: str, after: str) -> None:
    """The URL keeps its host, its path's last segment and its query; between them stands the token."""
    signed = CallbackTokens(["key"], max_age_seconds=60).url_for(url, CLAIM)
    assert signed.startswith(before)
    assert signed.endswith(after)
    assert CallbackTokens(["key"], max_age_seconds=60).read(urlsplit(signed).path) == CLAIM


def test_keys_rotate() -> None:
    """The first key signs; every key that is still listed is accepted; one that is not is refused."""
    path = urlsplit(CallbackTokens(["old"], max_age_seconds=60).url_for("http://host/callback", CLAIM)).path
    assert CallbackTokens(["new", "old"], max_age_seconds=60).read(path) == CLAIM
    assert CallbackTokens(["new"], max_age_seconds=60).read(path) is None
    renewed = urlsplit(CallbackTokens(["new", "old"], max_age_seconds=60).url_for("http://host/callback", CLAIM)).path
    assert CallbackTokens(["old"], max_age_seconds=60).read(renewed) is None


@pytest.mark.parametrize("path", ["/callback", "/", "", "/x/callback", "/a.b.c/callback", "//callback", "/é/callback"])
def test_what_is_no_token_is_none(path: str) -> None:
    """Anything else in a path gives no claim and raises nothing."""
    assert CallbackTokens(["key"], max_age_seconds=60).read(path) is None


def test_an_old_token_is_none() -> None:
    """A token is good for max_age_seconds."""
    tokens = CallbackTokens(["key"], max_age_seconds=-1)
    assert tokens.read(urlsplit(tokens.url_for("http://host/callback", CLAIM)).path) is None


def test_a_changed_token_is_none() -> None:
    """Whoever changes one character has no token."""
    tokens = CallbackTokens(["key"], max_age_seconds=60)
    path = urlsplit(tokens.url_for("http://host/callback", CLAIM)).path
    for place in range(1, path.rindex("/") - 1):
        other = "A" if path[place] != "A" else "B"
        assert tokens.read(path[:place] + other + path[place + 1 :]) is None
