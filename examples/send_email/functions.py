"""Send mail by SMTP, as a job: the payload is the mail, the environment names the server.

::

    jobfn dev functions.py
    jobfn enqueue send_email '{"to": "ada@example.com", "subject": "Hello", "text": "It works."}'

``Email`` is what a payload may hold, ``Smtp`` what the environment says, ``compose`` and ``deliver`` the way from
one to the other. README.md has the table of both.
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

#: How long the server may take for one step, and how long one delivery may take in all.
STEP_SECONDS = 30.0
TASK_SECONDS = 120.0
#: What a security mode means when SMTP_PORT is not set.
DEFAULT_PORTS = {"starttls": 587, "tls": 465, "none": 25}
SWITCH = {"": False, "0": False, "false": False, "no": False, "off": False} | dict.fromkeys(
    ("1", "true", "yes", "on"), True
)
#: Seven bits and CRLF: every server takes that, whatever else it can do.
ON_THE_WIRE = email.policy.compat32.clone(linesep="\r\n", cte_type="7bit")
UTF8 = Charset("utf-8")
UTF8.body_encoding = QP
#: Control characters and line breaks: what could end a header and begin another.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: What a subject can hold as it is; any other is encoded whole.
PLAIN_WORDS = re.compile(r"(?!.*=\?)[!-~]+(?: [!-~]+)*")


class NotSent(Exception):
    """The server did not take the mail; nobody was sent it. The job fails with this text and is tried again."""


def parsed(text: str) -> Address:
    """One address, with or without a name: ``ada@example.com``, ``Ada Lovelace <ada@example.com>``.

    Raises:
        ValueError: It is none, or several; the text does not repeat the address.
    """
    if CONTROL.search(text):
        raise ValueError("an address is one line: it holds a line break or another control character")
    try:
        header: Any = email.policy.default.header_factory("To", text)
    except (ValueError, IndexError):  # how the standard library takes some malformed ones
        raise ValueError("is no mail address") from None
    broken = any(isinstance(defect, (InvalidHeaderDefect, NonPrintableDefect)) for defect in header.defects)
    if len(header.addresses) > 1:
        raise ValueError("holds several addresses: give a list with one address each")
    if broken or not header.addresses or header.groups[0].display_name is not None:
        raise ValueError("is no mail address, such as ada@example.com or Ada Lovelace <ada@example.com>")
    address: Address = header.addresses[0]
    if not address.addr_spec.isascii():
        raise ValueError("has letters outside ASCII before or after the @: write the domain in its xn-- form")
    return address


def _one_address(text: str) -> str:
    try:
        return str(parsed(text))
    except ValueError as error:
        raise PydanticCustomError("address", "{reason}", {"reason": str(error)}) from None


def _one_line(text: str) -> str:
    if CONTROL.search(text):
        raise PydanticCustomError("one_line", "must be one line: it holds a line break or another control character")
    return text


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


MailAddress = Annotated[str, AfterValidator(_one_address)]
Recipients = Annotated[
    list[MailAddress], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=str | list[str])
]


class Email(BaseModel):
    """The payload: one mail. Other keys, such as a trigger's ``_meta``, are ignored."""

    model_config = ConfigDict(populate_by_name=True)

    to: Recipients = Field(description="One address or a list; every recipient sees the others")
    subject: Annotated[str, Field(min_length=1, max_length=900), AfterValidator(_one_line)]
    html: str | None = Field(default=None, description="The body as HTML")
    text: str | None = Field(default=None, description="The body as plain text; with html, what plain readers show")
    sender: MailAddress | None = Field(default=None, alias="from", description="Default: SMTP_FROM")
    reply_to: MailAddress | None = Field(default=None, alias="replyTo", description="Where answers go")

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        if not self.html and not self.text:
            raise PydanticCustomError("body", "one of html and text is required: give either or both")
        return self

    def summary(self, default_sender: str | None) -> dict[str, Any]:
        """All but the body, fit for a log."""
        return {
            "from": self.sender or default_sender,
            "to": self.to,
            "subject": self.subject,
            "replyTo": self.reply_to,
            "parts": [name for name, body in (("text", self.text), ("html", self.html)) if body],
        }


@dataclass(frozen=True)
class Smtp:
    """The mail server, as the environment names it. See README.md for each variable."""

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
            ConfigurationError: One is missing or makes no sense; names it.
        """
        host = env.get("SMTP_HOST")
        if not host:
            raise ConfigurationError("SMTP_HOST is not set: name your mail server, or set SEND_EMAIL_DRY_RUN=true")
        given_port = env.get("SMTP_PORT") or ""
        if given_port and not (given_port.isascii() and given_port.isdecimal() and 0 < int(given_port) < 65536):
            raise ConfigurationError(f"SMTP_PORT={given_port!r} is no port: use a number from 1 to 65535")
        security = env.get("SMTP_SECURITY") or ("tls" if given_port == "465" else "starttls")
        if security not in DEFAULT_PORTS:
            raise ConfigurationError(f"SMTP_SECURITY={security!r}: choose one of {', '.join(DEFAULT_PORTS)}")
        username, password = env.get("SMTP_USERNAME") or None, env.get("SMTP_PASSWORD") or None
        if (username is None) != (password is None):
            missing = "SMTP_USERNAME" if username is None else "SMTP_PASSWORD"
            raise ConfigurationError(f"{missing} is not set: a login takes SMTP_USERNAME and SMTP_PASSWORD together")
        ca_file = env.get("SMTP_CA_FILE") or None
        if ca_file is not None and not Path(ca_file).is_file():
            raise ConfigurationError(f"SMTP_CA_FILE={ca_file!r}: no such file")
        return cls(
            host=host,
            port=int(given_port) if given_port else DEFAULT_PORTS[security],
            security=security,
            sender=default_sender(env),
            username=username,
            password=password,
            ca_file=ca_file,
        )

    def client(self) -> aiosmtplib.SMTP:
        """A client that will connect, secure the connection and log in as the settings say."""
        return aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            use_tls=self.security == "tls",
            start_tls=self.security == "starttls",
            cert_bundle=self.ca_file,
            timeout=STEP_SECONDS,
        )


def default_sender(env: Mapping[str, str]) -> str | None:
    """``SMTP_FROM``, where it is set.

    Raises:
        ConfigurationError: It is no mail address.
    """
    given = env.get("SMTP_FROM")
    try:
        return str(parsed(given)) if given else None
    except ValueError as error:
        raise ConfigurationError(f"SMTP_FROM={given!r} {error}") from None


def is_dry_run(env: Mapping[str, str]) -> bool:
    """``SEND_EMAIL_DRY_RUN``. A word that is neither yes nor no is an error: a typing mistake sends no mail.

    Raises:
        ConfigurationError: It is neither.
    """
    given = env.get("SEND_EMAIL_DRY_RUN", "")
    try:
        return SWITCH[given.strip().lower()]
    except KeyError:
        raise ConfigurationError(f"SEND_EMAIL_DRY_RUN={given!r}: use true or false") from None


@task("send_email", timeout=TASK_SECONDS)
async def send_email(mail: Email, ctx: JobContext) -> dict[str, Any]:
    """Send one mail by SMTP.

    Returns:
        ``{"sent": true, "messageId": ...}``; in a dry run what would have been sent, without the body.
    """
    if is_dry_run(ctx.env):
        summary = mail.summary(default_sender(ctx.env))
        ctx.log.info("dry run: this mail would be sent", **summary)
        return {"sent": False, "dryRun": True, **summary}
    smtp = Smtp.from_env(ctx.env)
    sender = mail.sender or smtp.sender
    if sender is None:
        raise ConfigurationError("no sender: set SMTP_FROM, or give from in the payload")
    message = compose(mail, sender=sender)
    await deliver(message, sender=sender, recipients=mail.to, smtp=smtp)
    ctx.log.info("mail sent", message_id=message["Message-ID"], recipients=len(mail.to))
    return {"sent": True, "messageId": str(message["Message-ID"])}


def compose(mail: Email, *, sender: str) -> "Message[Any, Any]":
    """The message as it goes to the server; with both bodies a ``multipart/alternative``, the text first."""
    parts = [_part(body, subtype) for subtype, body in (("plain", mail.text), ("html", mail.html)) if body]
    message: Message[Any, Any] = parts[0] if len(parts) == 1 else MIMEMultipart("alternative", _subparts=parts)
    message["Message-ID"] = email.utils.make_msgid(domain=parsed(sender).domain)
    message["Date"] = email.utils.format_datetime(datetime.now(UTC))
    message["From"] = _named(sender)
    message["To"] = ", ".join(map(_named, mail.to))
    message["Subject"] = _unstructured(mail.subject)
    if mail.reply_to is not None:
        message["Reply-To"] = _named(mail.reply_to)
    return message


def _part(body: str, subtype: str) -> MIMENonMultipart:
    part = MIMENonMultipart("text", subtype)
    part.set_payload(body, UTF8)
    return part


# Header values are encoded here rather than left to EmailMessage, whose folding of letters beyond ASCII drops
# spaces and quotes in some releases of Python that this runs on.


def _named(text: str) -> str:
    address = parsed(text)
    return email.utils.formataddr((address.display_name, address.addr_spec))


def _unstructured(text: str) -> Header:
    return Header(text, "us-ascii" if PLAIN_WORDS.fullmatch(text) else "utf-8", header_name="Subject")


async def deliver(message: "Message[Any, Any]", *, sender: str, recipients: Sequence[str], smtp: Smtp) -> None:
    """Hand the message to the server for all recipients, or for none: a second try then sends nothing twice.

    Raises:
        NotSent: It cannot be reached, or refused the login, the sender, a recipient or the message.
    """
    refusals = []
    try:
        async with smtp.client() as server:
            await server.mail(parsed(sender).addr_spec)
            for recipient in recipients:
                try:
                    await server.rcpt(parsed(recipient).addr_spec)
                except aiosmtplib.SMTPRecipientRefused as error:
                    refusals.append(f"{error.recipient} ({error.code} {error.message})")
            if not refusals:
                await server.data(message.as_bytes(policy=ON_THE_WIRE))
    except (aiosmtplib.SMTPException, OSError) as error:
        raise NotSent(f"{smtp.host}:{smtp.port}: {_reason(error)}") from error
    if refusals:
        raise NotSent(f"{smtp.host}:{smtp.port} refused {', '.join(refusals)}; nobody was sent this mail")


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
