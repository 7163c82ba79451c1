"""Addresses as they may stand in logs, messages and ``jobs.last_error``: without what opens a door."""

import pytest

from jobfn.database.connection import shown
from jobfn.errors import ConfigurationError
from jobfn.settings import EnvironmentSettings
from jobfn.wire import redact_url
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.tokens import CallbackTokens, Claim

SIGNED = CallbackTokens(["a-secret"], max_age_seconds=60).url_for("http://h/callback", Claim("worker-0", 7, 1))


@pytest.mark.parametrize(
    ("dsn", "text"),
    [
        ("postgresql://me@h:5432/shop", "postgresql://me@h:5432/shop"),
        ("postgresql://me:s3cret@h/shop", "postgresql://me:***@h/shop"),
        ("postgresql://me:s3@c/r:et@h/shop", "postgresql://me:***@h/shop"),
        ("postgresql://:s3cret@h/shop", "postgresql://:***@h/shop"),
        ("postgresql:///shop?user=me&password=s3cret&host=/tmp", "postgresql:///shop?user=me&password=***&host=/tmp"),
        ("postgresql://h/shop?sslpassword=s3cret", "postgresql://h/shop?sslpassword=***"),
        ("host=h password=s3cret dbname=shop", "host=h password=*** dbname=shop"),
        ("password = 's3 \\' cret' host=h", "password = *** host=h"),
    ],
)
def test_a_database_address(dsn: str, text: str) -> None:
    """The password is blanked wherever an address can hold one."""
    assert shown(dsn) == text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://h:8080/a/callback", "http://h:8080/a/callback"),
        ("http://me:s3cret@h/callback", "http://h/callback"),
        ("http://h/callback?key=s3cret", "http://h/callback?…"),
        pytest.param(SIGNED, "http://h/…/callback", id="signed"),  # a name that does not change with the time
        ("http://h/v1.2.3/not.a.token/callback", "http://h/v1.2.3/not.a.token/callback"),
        ("http://[", "a URL that is none"),
    ],
)
def test_a_url(url: str, text: str) -> None:
    """No user, no password, no query, no token of a signed callback URL."""
    assert redact_url(url) == text


@pytest.mark.parametrize("password", ["s3cret", "s3/cret", "s3@cret"])
def test_a_malformed_setting(password: str) -> None:
    """A setting that cannot be is shown without its password."""
    environ = {"KNATIVE_SERVICE_URL": f"ftp://me:{password}@h"}
    settings: type[EnvironmentSettings] = ServiceSettings
    with pytest.raises(ConfigurationError) as caught:
        settings.from_environ(environ)
    assert "cret" not in str(caught.value)
    assert "KNATIVE_SERVICE_URL=" in str(caught.value)
