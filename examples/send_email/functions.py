"""Send mail over SMTP as a job: the payload is the mail, the environment configures the server.

::

    jobfn dev functions.py
    jobfn enqueue send_email '{"to": "ada@example.com", "subject": "Hello", "text": "It works."}'

``Email`` is the payload, ``Smtp`` the settings, ``compose`` builds the message and ``deliver`` sends it. README.md
lists the payload's keys and the environment variables.
"""

import email.policy
import email.utils
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.errors import InvalidHeaderDefect, NonPrintableDefect
from email.header import Header
from email.headerregistry import Address
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from pathlib import Path
from typing import Annotated, Any, Self

import aiosmtplib
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from jobfn import ConfigurationError, JobContext, task

#: Timeout of one SMTP command.
COMMAND_TIMEOUT_SECONDS = 30.0
TASK_TIMEOUT_SECONDS = 120.0
#: Port of each security mode if SMTP_PORT is not set.
DEFAULT_PORTS = {"starttls": 587, "tls": 465, "none": 25}
BOOLEANS = {"": False, "0": False, "false": False, "no": False, "off": False} | dict.fromkeys(
    ("1", "true", "yes", "on"), True
)
#: Seven bits and CRLF, which every server supports.
SMTP_POLICY = email.policy.compat32.clone(linesep="\r\n", cte_type="7bit")
UTF8 = Charset("utf-8")
UTF8.body_encoding = QP
#: Control characters and line breaks, which could start another header.
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: A subject that needs no encoding.
PLAIN_SUBJECT = re.compile(r"(?!.*=\?)[!-~]+(?: [!-~]+)*")


class NotSent(Exception):
    """The server did not accept the mail, and no recipient gets it. The job fails and is retried."""


def parse_address(text: str) -> Address:
    """Parse one address, with or without a name: ``ada@example.com``, ``Ada Lovelace <ada@example.com>``.

    Raises:
        ValueError: The text is not one address; the message does not repeat it.
    """
    if CONTROL_CHARACTERS.search(text):
        raise ValueError("must not contain line breaks or control characters")
    try:
        header: Any = email.policy.default.header_factory("To", text)
    except (ValueError, IndexError):  # raised by the standard library for some malformed addresses
        raise ValueError("is not a mail address") from None
    is_malformed = any(isinstance(defect, (InvalidHeaderDefect, NonPrintableDefect)) for defect in header.defects)
    if len(header.addresses) > 1:
        raise ValueError("contains several addresses: pass a list with one address each")
    if is_malformed or not header.addresses or header.groups[0].display_name is not None:
        raise ValueError("is not a mail address: write name@host or Display Name <name@host>")
    address: Address = header.addresses[0]
    if not address.addr_spec.isascii():
        raise ValueError("must be ASCII before and after the @: write the domain in its xn-- form")
    return address


def _validate_address(text: str) -> str:
    try:
        return str(parse_address(text))
    except ValueError as error:
        raise PydanticCustomError("address", "{reason}", {"reason": str(error)}) from None


def _validate_line(text: str) -> str:
    if CONTROL_CHARACTERS.search(text):
        raise PydanticCustomError("one_line", "must not contain line breaks or control characters")
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


MailAddress = Annotated[str, AfterValidator(_validate_address)]
Recipients = Annotated[
    list[MailAddress], Field(min_length=1), BeforeValidator(_as_list, json_schema_input_type=str | list[str])
]


class Email(BaseModel):
    """The payload: one mail. Other keys, for example a trigger's ``_meta``, are ignored."""

    model_config = ConfigDict(
        populate_by_name=True,
        json_schema_extra={"examples": [{"to": "grace@example.com", "subject": "Hi", "text": "It works."}]},
    )

    to: Recipients = Field(description="One address or a list; every recipient sees the others")
    subject: Annotated[str, Field(min_length=1, max_length=900), AfterValidator(_validate_line)]
    html: str | None = Field(default=None, description="The body as HTML")
    text: str | None = Field(default=None, description="The body as plain text, also for mail programs without HTML")
    sender: MailAddress | None = Field(default=None, alias="from", description="Default: SMTP_FROM")
    reply_to: MailAddress | None = Field(default=None, alias="replyTo", description="The address for replies")

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        if not self.html and not self.text:
            raise PydanticCustomError("body", "one of html and text is required")
        return self

    def summary(self, default_sender: str | None) -> dict[str, Any]:
        """Return the mail without its body, for logs."""
        return {
            "from": self.sender or default_sender,
            "to": self.to,
            "subject": self.subject,
            "replyTo": self.reply_to,
            "parts": [name for name, body in (("text", self.text), ("html", self.html)) if body],
        }


@dataclass(frozen=True)
class Smtp:
    """The mail server's settings. README.md lists the variables."""

    host: str
    port: int
    security: str
    sender: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the ``SMTP_*`` variables; an empty one counts as unset.

        Raises:
            ConfigurationError: A variable is missing or invalid.
        """
        host = env.get("SMTP_HOST")
        if not host:
            raise ConfigurationError("SMTP_HOST is not set: set it to your mail server, or set SEND_EMAIL_DRY_RUN=true")
        port = env.get("SMTP_PORT") or ""
        if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigurationError(f"SMTP_PORT={port!r} is not a port: use a number from 1 to 65535")
        security = env.get("SMTP_SECURITY") or ("tls" if port == "465" else "starttls")
        if security not in DEFAULT_PORTS:
            raise ConfigurationError(f"SMTP_SECURITY={security!r}: choose one of {', '.join(DEFAULT_PORTS)}")
        username, password = env.get("SMTP_USERNAME") or None, env.get("SMTP_PASSWORD") or None
        if (username is None) != (password is None):
            missing = "SMTP_USERNAME" if username is None else "SMTP_PASSWORD"
            raise ConfigurationError(f"{missing} is not set: a login needs SMTP_USERNAME and SMTP_PASSWORD")
        ca_file = env.get("SMTP_CA_FILE") or None
        if ca_file is not None and not Path(ca_file).is_file():
            raise ConfigurationError(f"SMTP_CA_FILE={ca_file!r} is not a file")
        return cls(
            host=host,
            port=int(port) if port else DEFAULT_PORTS[security],
            security=security,
            sender=default_sender(env),
            username=username,
            password=password,
            ca_file=ca_file,
        )

    def client(self) -> aiosmtplib.SMTP:
        """Return a client that connects, starts TLS and logs in with these settings."""
        return aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            use_tls=self.security == "tls",
            start_tls=self.security == "starttls",
            cert_bundle=self.ca_file,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )


def default_sender(env: Mapping[str, str]) -> str | None:
    """Return ``SMTP_FROM``, if it is set.

    Raises:
        ConfigurationError: It is not a mail address.
    """
    sender = env.get("SMTP_FROM")
    try:
        return str(parse_address(sender)) if sender else None
    except ValueError as error:
        raise ConfigurationError(f"SMTP_FROM={sender!r} {error}") from None


def is_dry_run(env: Mapping[str, str]) -> bool:
    """Return ``SEND_EMAIL_DRY_RUN``. Another value is an error, so that a typo does not send mail.

    Raises:
        ConfigurationError: The value is not a boolean.
    """
    value = env.get("SEND_EMAIL_DRY_RUN", "")
    try:
        return BOOLEANS[value.strip().lower()]
    except KeyError:
        raise ConfigurationError(f"SEND_EMAIL_DRY_RUN={value!r} is not a boolean: use true or false") from None


@task("send_email", timeout=TASK_TIMEOUT_SECONDS)
async def send_email(mail: Email, ctx: JobContext) -> dict[str, Any]:
    """Send one mail over SMTP.

    Returns:
        ``{"sent": true, "messageId": ...}``; in a dry run, the mail without its body.
    """
    if is_dry_run(ctx.env):
        summary = mail.summary(default_sender(ctx.env))
        ctx.log.info("dry run: mail not sent", **summary)
        return {"sent": False, "dryRun": True, **summary}
    smtp = Smtp.from_env(ctx.env)
    sender = mail.sender or smtp.sender
    if sender is None:
        raise ConfigurationError("the mail has no sender: set SMTP_FROM, or from in the payload")
    message = compose(mail, sender=sender)
    await deliver(message, sender=sender, recipients=mail.to, smtp=smtp)
    ctx.log.info("mail sent", message_id=message["Message-ID"], recipients=len(mail.to))
    return {"sent": True, "messageId": str(message["Message-ID"])}


def compose(mail: Email, *, sender: str) -> "Message[Any, Any]":
    """Return the message; with both bodies it is a ``multipart/alternative``, the text first."""
    parts = [_part(body, subtype) for subtype, body in (("plain", mail.text), ("html", mail.html)) if body]
    message: Message[Any, Any] = parts[0] if len(parts) == 1 else MIMEMultipart("alternative", _subparts=parts)
    message["Message-ID"] = email.utils.make_msgid(domain=parse_address(sender).domain)
    message["Date"] = email.utils.format_datetime(datetime.now(UTC))
    message["From"] = _encode_address(sender)
    message["To"] = ", ".join(map(_encode_address, mail.to))
    message["Subject"] = _encode_subject(mail.subject)
    if mail.reply_to is not None:
        message["Reply-To"] = _encode_address(mail.reply_to)
    return message


def _part(body: str, subtype: str) -> MIMENonMultipart:
    part = MIMENonMultipart("text", subtype)
    part.set_payload(body, UTF8)
    return part


# Headers are encoded here because EmailMessage loses spaces and quotes in non-ASCII headers in some Python releases.


def _encode_address(text: str) -> str:
    address = parse_address(text)
    return email.utils.formataddr((address.display_name, address.addr_spec))


def _encode_subject(text: str) -> Header:
    return Header(text, "us-ascii" if PLAIN_SUBJECT.fullmatch(text) else "utf-8", header_name="Subject")


async def deliver(message: "Message[Any, Any]", *, sender: str, recipients: Sequence[str], smtp: Smtp) -> None:
    """Send the message to all recipients or to none, so that a retry sends nothing twice.

    Raises:
        NotSent: The server is unreachable, or refused the login, the sender, a recipient or the message.
    """
    refused = []
    try:
        async with smtp.client() as server:
            await server.mail(parse_address(sender).addr_spec)
            for recipient in recipients:
                try:
                    await server.rcpt(parse_address(recipient).addr_spec)
                except aiosmtplib.SMTPRecipientRefused as error:
                    refused.append(f"{error.recipient} ({error.code} {error.message})")
            if not refused:
                await server.data(message.as_bytes(policy=SMTP_POLICY))
    except (aiosmtplib.SMTPException, OSError) as error:
        raise NotSent(f"{smtp.host}:{smtp.port}: {_reason(error)}") from error
    if refused:
        raise NotSent(f"{smtp.host}:{smtp.port} refused {', '.join(refused)}; the mail was sent to nobody")


def _reason(error: Exception) -> str:
    match error:
        case aiosmtplib.SMTPAuthenticationError():
            return f"login refused ({error.code} {error.message}): check SMTP_USERNAME and SMTP_PASSWORD"
        case aiosmtplib.SMTPSenderRefused():
            return f"refused the sender {error.sender} ({error.code} {error.message})"
        case aiosmtplib.SMTPResponseException():
            return f"refused the mail ({error.code} {error.message})"
        case aiosmtplib.SMTPServerDisconnected() | aiosmtplib.SMTPReadTimeoutError():
            return f"lost the connection: {error.message}"
    return f"{str(error).rstrip('.')}. Check SMTP_HOST, SMTP_PORT and SMTP_SECURITY"
