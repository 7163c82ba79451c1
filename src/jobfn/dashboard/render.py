"""From values to HTML: the templates, and what they may call. Everything is escaped unless it is our own markup."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from jobfn.dashboard.security import RequestContext
from jobfn.dashboard.settings import DashboardSettings

#: A script that asks for a part of a page names the template's block in this header.
FRAGMENT_HEADER = "X-Fragment"
#: The macros of ``templates/parts.html``.
PARTS = ("csrf", "state", "progress", "empty", "groups")
#: A long time in two units, the largest first: their lengths in seconds, and their names.
_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


class Pages:
    """Draws pages.

    Args:
        settings: What the pages may offer.
        subject: Which database they show, without a password.
    """

    def __init__(self, settings: DashboardSettings, *, subject: str) -> None:
        self._settings = settings
        self._subject = subject

    def answer(
        self, request: Request, template: str, context: Mapping[str, Any], *, status_code: int = 200
    ) -> HTMLResponse:
        """A whole page; or its block ``fragment``, where a script asks for no more than that."""
        block = "fragment" if FRAGMENT_HEADER in request.headers else None
        return HTMLResponse(self.html(request, template, context, block=block), status_code)

    def html(self, request: Request, template: str, context: Mapping[str, Any], *, block: str | None = None) -> str:
        """The HTML of a page, or of one block of it."""
        visit = RequestContext.of(request)
        found = environment().get_template(template)
        values = {
            **context,
            "path": request.url.path.removeprefix("/live") or "/",
            "query": request.url.query,
            "csrf_token": visit.csrf_token,
            "read_only": self._settings.read_only,
            "can_log_out": self._settings.token is not None and visit.session.is_logged_in,
            "subject": self._subject,
            "now": datetime.now(UTC),
        }
        if block is None:
            return found.render(values)
        return "".join(found.blocks[block](found.new_context(values)))


@cache
def environment() -> Environment:
    """The template engine."""
    made = Environment(
        loader=PackageLoader("jobfn.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "breakable": breakable,
        "moment": moment,
        "count": count,
        "duration": duration,
        "pretty": pretty,
        "compact": compact,
        "first_line": first_line,
    }
    made.globals |= {"link": link, "version": version("jobfn")}
    # A stream draws a block by itself, and no import that stands above it: what blocks call is known everywhere.
    parts = made.get_template("parts.html").module
    made.globals |= {name: getattr(parts, name) for name in PARTS}
    made.globals["charts"] = made.get_template("charts.html").module
    return made


def link(path: str, **parameters: object) -> str:
    """A URL of ours; parameters that are None or empty are left out."""
    given = [(name, str(value)) for name, value in parameters.items() if value not in {None, ""}]
    return f"{path}?{urlencode(given)}" if given else path


def breakable(name: str) -> Markup:
    """A name that may go on in the next line after its underscores, where it has no room."""
    return Markup("_<wbr>").join(name.split("_"))


def moment(at: datetime | None, *, nothing: str = "—") -> str | Markup:
    """A moment as a ``<time>``: absolute here, in UTC; the browser shows how long ago, in its own zone."""
    if at is None:
        return nothing
    exact = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        exact.isoformat(timespec="milliseconds").replace("+00:00", "Z"), f"{exact:%Y-%m-%d %H:%M:%S} UTC"
    )


def count(number: float | None) -> str:
    """A whole number with thousands apart: ``1,234``."""
    return "—" if number is None else f"{number:,.0f}"


def duration(seconds: float | None) -> str:
    """A length of time with the unit that fits: ``250 ms``, ``1.5 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds is None:
        return "—"
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms" if seconds >= 0.0005 else "0 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    length, unit, part_length, part_unit = next(units for units in _UNITS if seconds >= units[0])
    whole, rest = divmod(int(seconds), length)
    return f"{whole} {unit}" + (f" {rest // part_length} {part_unit}" if rest >= part_length else "")


def pretty(value: object) -> str:
    """A payload as readable JSON. What is a text that is no JSON stays as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def compact(value: object) -> str:
    """A value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def first_line(text: str | None) -> str:
    """The first line of an error, for a list."""
    return (text or "").strip().partition("\n")[0][:300]
