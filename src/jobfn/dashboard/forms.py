"""What a browser's form sends: ``application/x-www-form-urlencoded``, read by hand and with a limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

MAX_FORM_BYTES = 1024 * 1024
MAX_FIELDS = 10_000


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, in the order they came in.

    Attributes:
        values: By name; a name may come several times.
    """

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def one(self, name: str) -> str:
        """The last value of this name, stripped; empty where there is none."""
        return self.values[name][-1].strip() if name in self.values else ""

    def all(self, name: str) -> Sequence[str]:
        """All values of this name."""
        return self.values.get(name, ())

    @classmethod
    def parse(cls, text: str) -> "Form":
        """The form in an encoded text.

        Raises:
            ValueError: There are too many fields.
        """
        values: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS):
            values.setdefault(name, []).append(value.replace("\r\n", "\n").replace("\x00", ""))
        return cls(values)


async def read_form(request: Request) -> Form | Response:
    """The form of a POST, an empty one for other methods; or the answer to one that cannot be read."""
    if request.method != "POST":
        return Form()
    if not request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return PlainTextResponse("Send a form: application/x-www-form-urlencoded.\n", 415)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return PlainTextResponse(f"A form has at most {MAX_FORM_BYTES} bytes.\n", 413)
    try:
        return Form.parse(body.decode())
    except ValueError:
        return PlainTextResponse(f"That is no form in UTF-8 of at most {MAX_FIELDS} fields.\n", 400)
