"""Render the templates, with their filters and macros. Values are escaped automatically."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from jobfn.dashboard.security import RequestContext
from jobfn.dashboard.sessions import Sessions
from jobfn.dashboard.settings import DashboardSettings
from jobfn.database.connection import EARLIEST, LATEST

#: Scripts send this header to get only the template's block ``fragment``.
FRAGMENT_HEADER: Final = "X-Fragment"
#: Macros of ``templates/components.html`` that every template can call.
COMPONENTS: Final = ("csrf", "state", "progress", "empty", "groups")
#: Key of a request's scope: the path before the pages of this dashboard, if there are several.
ROOT_KEY: Final = "jobfn.dashboard.root"
#: Key of a request's scope: the troubles that the banner shows.
TROUBLES_KEY: Final = "jobfn.dashboard.troubles"
#: Attributes of the templates with a path of this dashboard. Values cannot contain quotes, because they are escaped.
_ROOTED: Final = re.compile(r'\b(href|action|formaction|src)="/(?!/|databases/)')
#: Pairs of units for long durations, largest first: seconds and name of each.
_UNITS: Final = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


@dataclass(frozen=True, slots=True)
class Switch:
    """The other databases of a dashboard.

    Attributes:
        name: The database of this one.
        states: Returns the state of each database.
        sessions: The sessions, which all databases share.
    """

    name: str
    states: Callable[[], Mapping[str, str]]
    sessions: Sessions


class Pages:
    """Renders pages."""

    def __init__(self, settings: DashboardSettings, *, database_label: str, switch: Switch | None = None) -> None:
        self._settings = settings
        self._switch = switch
        self._database_label = database_label

    def respond(
        self, request: Request, template: str, context: Mapping[str, Any], *, status_code: int = 200
    ) -> HTMLResponse:
        """Return a page, or only its block ``fragment`` if a script requests that."""
        block = "fragment" if FRAGMENT_HEADER in request.headers else None
        return HTMLResponse(self.render(request, template, context, block=block), status_code)

    def notice(self, request: Request, title: str, text: str, *, back: str, is_problem: bool = False) -> HTMLResponse:
        """Return the result of an action with a link back; 400 for a problem."""
        context = {"title": title, "text": text, "is_problem": is_problem, "back": back}
        return self.respond(request, "notice.html", context, status_code=400 if is_problem else 200)

    def render(self, request: Request, template: str, context: Mapping[str, Any], *, block: str | None = None) -> str:
        """Render a page, or one of its blocks."""
        request_context = RequestContext.from_request(request)
        page = environment().get_template(template)
        root: str = request.scope.get(ROOT_KEY, "")
        values = {
            **context,
            "path": request.scope["path"].removeprefix("/live") or "/",
            "query": request.scope["query_string"].decode("latin-1"),
            "csrf_token": request_context.csrf_token,
            "read_only": self._settings.read_only or request_context.session.is_viewer,
            "user": request_context.session.user,
            "database_label": self._database_label,
            "root": root,
            "switch": self._switch,
            "troubles": request.scope.get(TROUBLES_KEY, ()),
        }
        html = page.render(values) if block is None else "".join(page.blocks[block](page.new_context(values)))
        return _ROOTED.sub(rf'\1="{root}/', html) if root else html


@cache
def environment() -> Environment:
    """Return the template engine."""
    engine = Environment(
        loader=PackageLoader("jobfn.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {
        "breakable": breakable,
        "timestamp": timestamp,
        "is_finite": is_finite,
        "count": count,
        "duration": duration,
        "pretty_json": pretty_json,
        "compact_json": compact_json,
        "first_line": first_line,
        "with_code": with_code,
    }
    engine.globals |= {"link": link, "version": version("jobfn")}
    # Streams render single blocks, which do not see the imports of their template.
    components = engine.get_template("components.html").module
    engine.globals |= {name: getattr(components, name) for name in COMPONENTS}
    engine.globals["charts"] = engine.get_template("charts.html").module
    return engine


def link(path: str, **parameters: object) -> str:
    """Return a URL of the dashboard without its empty parameters."""
    query = [(name, str(value)) for name, value in parameters.items() if value not in {None, ""}]
    return f"{path}?{urlencode(query)}" if query else path


def breakable(name: str) -> Markup:
    """Allow line breaks after the underscores of a name."""
    return Markup("_<wbr>").join(name.split("_"))


def with_code(text: str) -> Markup:
    """Show the parts of a text between backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def timestamp(at: datetime | None) -> str | Markup:
    """Return a ``<time>`` element in UTC; ``never`` for infinity. Scripts replace its text with a relative time."""
    if at is None:
        return "—"
    if at in {LATEST, EARLIEST}:
        return "never" if at == LATEST else "long ago"
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"), f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    )


def is_finite(at: datetime | None) -> bool:
    """Whether this is a time, and not infinity."""
    return at is not None and at not in {LATEST, EARLIEST}


def count(number: float | None) -> str:
    """Format an integer with thousands separators: ``1,234``."""
    return "—" if number is None else f"{number:,.0f}"


def duration(seconds: float | None) -> str:
    """Format a duration: ``250 ms``, ``1.5 s``, ``3 min 5 s``, ``2 h 10 min``."""
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


def pretty_json(value: object) -> str:
    """Format a payload as indented JSON. Text that is not JSON is returned as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def compact_json(value: object) -> str:
    """Format a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def first_line(text: str | None) -> str:
    """Return the first line of an error, cut to 300 characters."""
    return (text or "").strip().partition("\n")[0][:300]
