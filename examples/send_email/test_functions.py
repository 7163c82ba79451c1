"""The send_email function with real SMTP servers."""

import asyncio
import contextlib
import email
import email.policy
import email.utils
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jobfn import ConfigurationError, JobContext, create_app
from jobfn.errors import InvalidPayload
from jobfn.function.loading import load_module

functions = load_module(str(Path(__file__).with_name("functions.py")))

HELLO = {"to": "ada@example.com", "subject": "Hello", "text": "It works."}
LONG_SUBJECT = "Grüße aus Köln — 日本語 und мир, " * 8
OPEN_MAIL_SERVER = Callable[..., AbstractAsyncContextManager["MailServer"]]


@dataclass
class MailServer:
    """An SMTP server that records the mail it receives."""

    port: int
    certificates: Path
    envelopes: list[Any] = field(default_factory=list)
    refused: Mapping[str, str] = field(default_factory=dict)
    content_answer: str = "250 kept"

    @property
    def env(self) -> dict[str, str]:
        return {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.port),
            "SMTP_SECURITY": "none",
            "SMTP_FROM": "Jobs <jobs@example.com>",
        }

    @property
    def secured_env(self) -> dict[str, str]:
        return {**self.env, "SMTP_SECURITY": "starttls", "SMTP_CA_FILE": str(self.certificates)}

    def only_message(self) -> EmailMessage:
        """Return the one received message. Not a property, because aiosmtpd reads all attributes of its handler."""
        (envelope,) = self.envelopes
        return email.message_from_bytes(envelope.content, policy=email.policy.default)

    # Handler methods of aiosmtpd:
    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return self.content_answer


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def open_mail_server(authority: trustme.CA, tmp_path: Path) -> OPEN_MAIL_SERVER:
    """Start SMTP servers, each on a free port, with aiosmtpd's options."""
    certificates = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(certificates)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    @contextlib.asynccontextmanager
    async def start(*, starttls: bool = False, tls: bool = False, **options: Any) -> AsyncIterator[MailServer]:
        mail_server = MailServer(0, certificates)

        def session() -> SMTP:
            return SMTP(mail_server, hostname="mail.test", tls_context=context if starttls else None, **options)

        listener = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=context if tls else None)
        async with listener:
            mail_server.port = listener.sockets[0].getsockname()[1]
            yield mail_server

    return start


@pytest.fixture
async def mail_server(open_mail_server: OPEN_MAIL_SERVER) -> AsyncIterator[MailServer]:
    """A server without TLS and login."""
    async with open_mail_server() as server:
        yield server


def read_body(part: Any) -> str:
    """Return a part's text with ``\\n`` line ends."""
    text: str = part.get_content()
    return text.replace("\r\n", "\n").removesuffix("\n")


async def send(payload: Mapping[str, Any], env: Mapping[str, str]) -> Any:
    """Validate the payload and run the handler, as the app does."""
    mail = functions.send_email.decode(json.dumps(payload).encode())
    return await functions.send_email(mail, JobContext(task="send_email", env=env))


async def test_message_arrives_with_all_headers_bodies_and_recipients(mail_server: MailServer) -> None:
    result = await send(
        {
            "to": ["ada@example.com", '"Löwe, Grete" <grete@example.org>'],
            "subject": LONG_SUBJECT,
            "text": "Grüße,\nzwei Zeilen\n.\neine mit Punkt",
            "html": "<p>Grüße — 日本語</p>",
            "from": "Rechnung <billing@example.com>",
            "replyTo": "Hilfe <help@example.com>",
        },
        mail_server.env,
    )

    message = mail_server.only_message()
    assert result == {"sent": True, "messageId": message["Message-ID"]}
    assert message["Message-ID"].endswith("@example.com>")
    assert message["From"] == "Rechnung <billing@example.com>"
    assert message["To"] == 'ada@example.com, "Löwe, Grete" <grete@example.org>'
    assert message["Subject"] == LONG_SUBJECT
    assert message["Reply-To"] == "Hilfe <help@example.com>"
    assert message["Date"].datetime is not None
    assert message.get_content_type() == "multipart/alternative"
    bodies = [(part.get_content_type(), read_body(part)) for part in message.iter_parts()]
    assert bodies == [("text/plain", "Grüße,\nzwei Zeilen\n.\neine mit Punkt"), ("text/html", "<p>Grüße — 日本語</p>")]
    (envelope,) = mail_server.envelopes
    assert envelope.mail_from == "billing@example.com"
    assert envelope.rcpt_tos == ["ada@example.com", "grete@example.org"]
    assert envelope.content.isascii()


@pytest.mark.parametrize(("key", "content_type"), [("text", "text/plain"), ("html", "text/html")])
async def test_mail_with_one_body_is_not_multipart(mail_server: MailServer, key: str, content_type: str) -> None:
    await send({"to": ["ada@example.com"], "subject": "Hello", key: "<b>It works.</b>"}, mail_server.env)

    message = mail_server.only_message()
    assert message.get_content_type() == content_type
    assert read_body(message) == "<b>It works.</b>"
    assert message["From"] == "Jobs <jobs@example.com>"
    assert message["Reply-To"] is None


HEADERS = ["Content-Transfer-Encoding", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"]
LINE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=200)


@settings(deadline=None, max_examples=40)
@given(subject=LINE, name=LINE, body=LINE)
@example(subject="=?utf-8?q?=0ABcc:_eve=40example.com?=", name="x", body=".")
@example(subject="Hello  there ", name='Grete "die Löwin", ' * 5, body="From Århus = Å" * 90)
def test_any_text_is_decoded_unchanged_and_lines_are_short(subject: str, name: str, body: str) -> None:
    sender = email.utils.formataddr((name, "a@example.com"))
    try:
        payload = {**HELLO, "subject": subject, "from": sender, "text": body}
        mail = functions.send_email.decode(json.dumps(payload).encode())
    except InvalidPayload:
        assume(False)
    sent = functions.compose(mail, sender=mail.sender).as_bytes(policy=functions.SMTP_POLICY)
    message = email.message_from_bytes(sent, policy=email.policy.default)
    assert message["Subject"] == subject
    assert message["From"].addresses[0].display_name == functions.parse_address(mail.sender).display_name
    assert read_body(message) == body
    assert sorted(message.keys()) == HEADERS
    assert max(map(len, sent.split(b"\r\n"))) <= 998


async def test_delivery_over_http_sends_the_mail(mail_server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in mail_server.env.items():
        monkeypatch.setenv(name, value)

    payload = {**HELLO, "_meta": {"schema": "public", "table": "invites", "event": "INSERT"}}
    app = httpx.ASGITransport(create_app(functions))
    async with httpx.AsyncClient(transport=app, base_url="http://function") as client:
        response = await client.post("/send_email", json=payload)

    assert response.status_code == 200, response.text
    assert response.json() == {"sent": True, "messageId": mail_server.only_message()["Message-ID"]}


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("starttls", {"starttls": True, "require_starttls": True, "auth_required": True}),
        ("tls", {"tls": True, "auth_require_tls": False}),  # aiosmtpd does not see implicit TLS
    ],
)
async def test_login_over_tls_succeeds_and_a_refused_one_hides_the_password(
    open_mail_server: OPEN_MAIL_SERVER, mode: str, options: dict[str, bool]
) -> None:
    logins = []

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: LoginPassword) -> AuthResult:
        logins.append((login.login, login.password))
        return AuthResult(success=login.password == b"open sesame", handled=False)

    async with open_mail_server(**options, authenticator=authenticate) as server:
        env = {**server.secured_env, "SMTP_SECURITY": mode, "SMTP_USERNAME": "jobs", "SMTP_PASSWORD": "open sesame"}
        assert (await send(HELLO, env))["sent"] is True
        assert logins == [(b"jobs", b"open sesame")]
        assert server.only_message()["Subject"] == "Hello"

        with pytest.raises(functions.NotSent, match="check SMTP_USERNAME and SMTP_PASSWORD") as caught:
            await send(HELLO, {**env, "SMTP_PASSWORD": "wrong"})
        assert "wrong" not in str(caught.value)
        assert len(server.envelopes) == 1


async def test_login_at_a_server_without_one_sends_nothing(mail_server: MailServer) -> None:
    with pytest.raises(functions.NotSent, match="AUTH"):
        await send(HELLO, {**mail_server.env, "SMTP_USERNAME": "jobs", "SMTP_PASSWORD": "open sesame"})
    assert mail_server.envelopes == []


async def test_missing_login_fails_with_the_server_s_message(open_mail_server: OPEN_MAIL_SERVER) -> None:
    async with open_mail_server(starttls=True, auth_required=True) as server:
        with pytest.raises(functions.NotSent, match=r"refused the sender jobs@example\.com \(530 .*[Aa]uthentication"):
            await send(HELLO, server.secured_env)
        assert server.envelopes == []


async def test_untrusted_certificate_is_refused(open_mail_server: OPEN_MAIL_SERVER) -> None:
    async with open_mail_server(starttls=True) as server:
        env = {**server.env, "SMTP_SECURITY": "starttls"}
        with pytest.raises(functions.NotSent, match="certificate"):
            await send(HELLO, env)
        assert server.envelopes == []


async def test_server_without_starttls_gets_no_mail(mail_server: MailServer) -> None:
    with pytest.raises(functions.NotSent, match=r"STARTTLS.*SMTP_SECURITY"):
        await send(HELLO, {**mail_server.env, "SMTP_SECURITY": "starttls"})
    assert mail_server.envelopes == []


async def test_refused_recipient_fails_the_job_and_nobody_gets_the_mail(mail_server: MailServer) -> None:
    mail_server.refused = {"bob@example.com": "550 no such user", "eve@example.com": "450 come back later"}
    payload = {**HELLO, "to": ["ada@example.com", "Bob <bob@example.com>", "eve@example.com"]}

    with pytest.raises(functions.NotSent) as caught:
        await send(payload, mail_server.env)

    assert str(caught.value) == (
        f"127.0.0.1:{mail_server.port} refused bob@example.com (550 no such user), "
        "eve@example.com (450 come back later); the mail was sent to nobody"
    )
    assert mail_server.envelopes == []


async def test_refused_mail_fails_with_the_server_s_message(mail_server: MailServer) -> None:
    mail_server.content_answer = "554 looks like spam"
    with pytest.raises(functions.NotSent, match=r"refused the mail \(554 looks like spam\)"):
        await send(HELLO, mail_server.env)


async def test_unreachable_server_fails_with_its_address_and_the_settings(mail_server: MailServer) -> None:
    env = {**mail_server.env, "SMTP_PORT": "1"}
    with pytest.raises(functions.NotSent, match=r"127\.0\.0\.1:1: .*Check SMTP_HOST, SMTP_PORT"):
        await send(HELLO, env)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"SMTP_HOST": ""}, "SMTP_HOST is not set"),
        ({"SMTP_FROM": ""}, "set SMTP_FROM, or from"),
        ({"SMTP_FROM": "nobody"}, "SMTP_FROM='nobody' is not a mail address"),
        ({"SMTP_PORT": "smtp"}, "SMTP_PORT='smtp' is not a port"),
        ({"SMTP_SECURITY": "ssl"}, "SMTP_SECURITY='ssl': choose one of starttls, tls, none"),
        ({"SMTP_PASSWORD": "secret"}, "SMTP_USERNAME is not set"),
        ({"SMTP_CA_FILE": "/no/such/file"}, "is not a file"),
        ({"SEND_EMAIL_DRY_RUN": "ture"}, "SEND_EMAIL_DRY_RUN='ture' is not a boolean: use true or false"),
    ],
)
async def test_missing_or_invalid_setting_fails_with_its_name(
    mail_server: MailServer, change: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await send(HELLO, {**mail_server.env, **change})
    assert problem in str(caught.value)
    assert mail_server.envelopes == []


@pytest.mark.parametrize(
    ("settings", "port", "security"),
    [
        ({}, 587, "starttls"),
        ({"SMTP_PORT": "465"}, 465, "tls"),
        ({"SMTP_PORT": "2525"}, 2525, "starttls"),
        ({"SMTP_SECURITY": "tls"}, 465, "tls"),
        ({"SMTP_SECURITY": "none"}, 25, "none"),
    ],
)
def test_port_and_security_have_matching_defaults(settings: dict[str, str], port: int, security: str) -> None:
    smtp = functions.Smtp.from_env({"SMTP_HOST": "mail.example.com", **settings})
    assert (smtp.port, smtp.security) == (port, security)


@pytest.mark.parametrize("switch", ["1", "Yes"])
async def test_dry_run_logs_and_returns_the_mail_without_its_body(mail_server: MailServer, switch: str) -> None:
    payload = {**HELLO, "to": "Ada <ada@example.com>", "html": "<b>secret</b>", "replyTo": "help@example.com"}
    with structlog.testing.capture_logs() as logged:
        result = await send(payload, {**mail_server.env, "SEND_EMAIL_DRY_RUN": switch})

    mail = {
        "from": "Jobs <jobs@example.com>",
        "to": ["Ada <ada@example.com>"],
        "subject": "Hello",
        "replyTo": "help@example.com",
        "parts": ["text", "html"],
    }
    assert result == {"sent": False, "dryRun": True, **mail}
    (line,) = logged
    assert line["event"] == "dry run: mail not sent"
    assert {key: line[key] for key in mail} == mail
    assert "secret" not in str(logged)
    assert "It works." not in str(logged)
    assert mail_server.envelopes == []


async def test_dry_run_needs_no_other_setting() -> None:
    result = await send(HELLO, {"SEND_EMAIL_DRY_RUN": "true"})
    assert result["dryRun"] is True
    assert result["from"] is None


@pytest.mark.parametrize("switch", ["", "No"])
async def test_mail_is_sent_without_dry_run(mail_server: MailServer, switch: str) -> None:
    await send(HELLO, {**mail_server.env, "SEND_EMAIL_DRY_RUN": switch})
    assert mail_server.only_message()["Subject"] == "Hello"
