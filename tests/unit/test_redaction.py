"""Addresses in logs, messages and ``jobs.last_error`` contain no credentials."""

import pytest

from jobfn.database.connection import redact_dsn
from jobfn.errors import ConfigurationError
from jobfn.settings import EnvironmentSettings
from jobfn.wire import redact_url
from jobfn.worker.settings import ServiceSettings


@pytest.mark.parametrize(
    ("dsn", "redacted"),
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
def test_dsn_is_redacted(dsn: str, redacted: str) -> None:
    assert redact_dsn(dsn) == redacted


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("http://h:8080/a/callback", "http://h:8080/a/callback"),
        ("http://me:s3cret@h/callback", "http://h/callback"),
        ("http://h/callback?key=s3cret", "http://h/callback?…"),
        ("http://h/callback?token=65b0c0de.7-1.c2lnbmF0dXJl&/callback", "http://h/callback?…"),
        ("http://[", "an invalid URL"),
    ],
)
def test_url_is_redacted(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted


@pytest.mark.parametrize("variable", ["JOBS_CALLBACK_SECRET", "JOBFN_INVOKE_SECRET"])
@pytest.mark.parametrize("secret", ["s3cret", "x" * 31, f"{'x' * 32},s3cret"])
def test_short_secret_is_refused_without_showing_it(variable: str, secret: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ServiceSettings.from_environ({variable: secret})
    assert str(caught.value) == (
        f"{variable}: a secret must have at least 32 characters: make one with `openssl rand -hex 32`"
    )


@pytest.mark.parametrize("password", ["s3cret", "s3/cret", "s3@cret"])
def test_invalid_setting_is_shown_without_its_password(password: str) -> None:
    environ = {"KNATIVE_SERVICE_URL": f"ftp://me:{password}@h"}
    settings: type[EnvironmentSettings] = ServiceSettings
    with pytest.raises(ConfigurationError) as caught:
        settings.from_environ(environ)
    assert "cret" not in str(caught.value)
    assert "KNATIVE_SERVICE_URL=" in str(caught.value)
