"""Parse ``application/x-www-form-urlencoded`` bodies, with limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

MAX_FORM_BYTES = 1024 * 1024
MAX_FIELDS = 10_000
#: Durations of pauses that forms offer, in seconds.
PAUSE_DURATIONS: Final = {"900": "15 minutes", "3600": "1 hour", "14400": "4 hours", "86400": "1 day"}


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a submitted form."""

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def one(self, name: str) -> str:
        """Return the last value of a field, stripped; empty if it is missing."""
        return self.values[name][-1].strip() if name in self.values else ""

    def all(self, name: str) -> Sequence[str]:
        """Return all values of a field."""
        return self.values.get(name, ())

    @classmethod
    def parse(cls, text: str) -> "Form":
        """Parse an encoded form.

        Raises:
            ValueError: The form has more than ``MAX_FIELDS`` fields.
        """
        values: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS):
            values.setdefault(name, []).append(value.replace("\r\n", "\n").replace("\x00", ""))
        return cls(values)


async def read_form(request: Request) -> Form | Response:
    """Return the form of a POST, an empty form for other methods, or an error response."""
    if request.method != "POST":
        return Form()
    if not request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return PlainTextResponse("The content type must be application/x-www-form-urlencoded.\n", 415)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return PlainTextResponse(f"A form must have at most {MAX_FORM_BYTES} bytes.\n", 413)
    try:
        return Form.parse(body.decode())
    except ValueError:
        return PlainTextResponse(f"A form must be UTF-8 and have at most {MAX_FIELDS} fields.\n", 400)
