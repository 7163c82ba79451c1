"""Hypothesis strategies for requests, from valid to hostile, and for payloads that match a JSON Schema.

Every generated string of a payload contains ``CANARY``, so that a response or log that quotes it is noticed.
"""

import copy
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from support.fuzz import CANARY, Headers

#: Placeholders in a payload for numbers that ``json.dumps`` cannot write.
_HUGE, _HUGE_EXPONENT = '"@huge@"', '"@huge exponent@"'
_PLACEHOLDERS = {_HUGE: b"9" * 5_000, _HUGE_EXPONENT: b"-1e999999999"}

METHODS = st.one_of(
    st.just(b"POST"),
    st.just(b"POST"),
    st.sampled_from(
        [b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PURGE", b"QUERY"]
    ),
    st.sampled_from([b"post", b"P\x00ST", b"P" * 300, b"", b"\xff"]),
)

_ODD_PATHS = st.sampled_from(
    [
        *(b"/", b"//", b"", b"*", b"/%", b"/%zz", b"/%00", b"/%ff%fe", b"/%ed%a0%80", b"/..%2f..%2fetc/passwd", b"/."),
        *(b"/healthz", b"/readyz/", b"http://elsewhere.example/order", b"//elsewhere.example/order", b"/?", b"/#x"),
        *(b"/order?x=%00", b"/order;a=b", b"/order%20", b"/order/", b"/%6frder", b"/\xc3\xa9", b"/\xff", b"/a\tb"),
        *(b"/" + b"a" * 20_000, b"/" + b"%41" * 3_000, b"/[", b"/{x}", b"/%0d%0aX-Injected:%20yes", b"ftp://x/y", b":"),
    ]
)


def paths(*names: str) -> st.SearchStrategy[bytes]:
    """Generate request targets: the names in several percent-encodings, and other targets."""
    named = st.builds(
        lambda name, safe, query: b"/" + quote(name, safe=safe).encode() + query,
        st.sampled_from(names),
        st.sampled_from(["", ":/", ":"]),
        st.sampled_from([b"", b"", b"?a=1&b"]),
    )
    other = st.binary(min_size=1, max_size=30).map(lambda text: b"/" + text)
    return st.one_of(named, named, named, _ODD_PATHS, other)


_INTEGERS = [b"0", b"-1", b"1.0", b"1e3", b"9223372036854775807", b"9223372036854775808", b"1" * 5_000, b"+1", b"0x1"]
_UUIDS = [b"5b720132-17d5-424d-9bcb-ee7b17c13d43", b"5b72013217d5424d9bcbee7b17c13d43", b"{5b720132}", b"urn:uuid:x"]
_ABSENT = [b"", b"null", b"undefined", b" \t "]
_TEXTS = [
    *(b"worker-0", "wörker".encode(), "wörker".encode("latin-1"), b"\xff\xfe", b"a" * 30_000, b"a\x0bb", b"a\x7fb"),
    *(b"a\x00b", b"a, b", b"'; drop table jobs; --", b"${jndi:x}", b"%0d%0a", "\u2028".encode(), b"a\rb", b"a\tb"),
]
#: Invalid callback URLs, and URLs of hosts that are not allowed (JOBFN_CALLBACK_ALLOWED_HOSTS).
_URLS = [
    *(b"/callback", b"http://", b"http://[", b"http://[::1", b"http://a:99999/", b"http://a:b/", b"ftp://a/", b"x"),
    *(b"http://127.0.0.1:0/callback", b"http://user:pw@elsewhere.invalid/callback", b"http:///callback"),
    b"//a/callback",
    *("http://ünï.invalid/".encode(), b"http://%00/", b"http://a b/", b"HTTP://ELSEWHERE.INVALID", b"http://a\\@b/"),
    b"http://elsewhere.invalid/" + b"x" * 10_000,
]
_JOB_HEADERS: dict[bytes, list[bytes]] = {
    b"X-Worker-Id": _TEXTS,
    b"X-Job-Id": [b"1", *_INTEGERS, "١٢".encode(), "²".encode()],
    b"X-Job-Attempt": [b"1", *_INTEGERS, b"2147483648"],
    b"X-Database-Id": _UUIDS,
    b"X-Actor-Id": _UUIDS,
    b"X-Entity-Id": _UUIDS,
    b"X-Callback-Url": _URLS,
    b"X-Heartbeat-Url": _URLS,
    b"X-Lease-Seconds": [b"30", b"0", b"-1", b"nan", b"inf", b"1e400", b"0.0001", b"x", *_INTEGERS],
    b"X-Invoke-Secret": _TEXTS,
    b"X-Job-Error": [b"true", b"TRUE", b" true ", b"false", b"1", b"\xff"],
}
_OTHER_HEADERS: dict[bytes, list[bytes]] = {
    b"Host": [b"localhost", b"", b"[", b"[::1", b"a:b", b"elsewhere.example", b"\xff", b"a/b?c#d", b"a" * 5_000],
    b"Content-Type": [
        *(b"application/json", b"application/json; charset=utf-8", b"application/vnd.api+json", b"text/plain", b"\xff"),
        *(b"", b";", b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"APPLICATION/JSON"),
        b"x" * 20_000,
    ],
    b"Connection": [b"close", b"keep-alive", b"upgrade", b"Upgrade, close", b"\xff"],
    b"Upgrade": [b"websocket", b"h2c"],
    b"Expect": [b"100-continue", b"200-maybe"],
    b"Accept": [b"text/html", b"\xff"],
    b"Accept-Encoding": [b"gzip, br", b"identity;q=0"],
    b"Content-Encoding": [b"gzip"],
    b"X-Forwarded-For": [b"1.2.3.4", b"\xff"],
    b"Traceparent": [b"00-zz", b"\xff"],
}
_NAMES = st.sampled_from([b"X", b"x-job-id ", b"X-Job\xff", b"", b"X" * 300, b"X-Job-Id:", b"X_Job_Id"])


def _header(name: bytes, values: list[bytes]) -> st.SearchStrategy[tuple[bytes, bytes]]:
    spelled = st.sampled_from([name, name.lower(), name.upper()])
    return st.tuples(spelled, st.one_of(st.sampled_from(values), st.sampled_from(_ABSENT), st.binary(max_size=12)))


_ANY_HEADER = st.one_of(
    *(_header(name, values) for name, values in _JOB_HEADERS.items()),
    *(_header(name, values) for name, values in _OTHER_HEADERS.items()),
)
_BROKEN_HEADER = st.tuples(_NAMES, st.binary(max_size=12))


def hostile_headers() -> st.SearchStrategy[Headers]:
    """Generate valid, malformed, duplicate and huge headers in any order, and some that are not valid HTTP."""
    hostile = st.lists(_ANY_HEADER, max_size=8)
    broken = st.tuples(st.lists(_ANY_HEADER, max_size=4), st.lists(_BROKEN_HEADER, max_size=2)).map(
        lambda both: both[0] + both[1]
    )
    return st.one_of(hostile, hostile, hostile, broken)


_TEXT = st.text(st.characters(exclude_categories=()), max_size=8).map(lambda text: f"{text}{CANARY}")
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([2**63, -(2**63) - 1, 10**400, _HUGE, _HUGE_EXPONENT, "\x00" + CANARY, "\ud800" + CANARY]),
    _TEXT,
)
JUNK: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_TEXT | st.sampled_from(["id", "_meta"]), inner, max_size=4)
    ),
    max_leaves=12,
)

_BROKEN_BODIES = [
    *(b"", b" ", b"{", b"}", b"[1,]", b"{'a': 1}", b"nul", b"NaN", b"Infinity", b"\x00", b'"\x00"', b"\xff\xfe"),
    b"\x1f\x8b",
    *(b"\xef\xbb\xbf{}", '{"id": 1}'.encode("utf-16"), b'{"a": 1} x', b'{"a": "\xed\xa0\x80"}', b'"\\ud800"'),
    b'"\\udc00"',
    *(b"[" * 100_000, b'{"a":' * 50_000, b"[" * 120 + b"]" * 120, b"[" * 900 + b"]" * 900, b"1" * 10_000),
    b"1e" + b"9" * 999,
    *(b'{"id": 1, "id": 2}', b'"' + CANARY.encode() * 20_000, b" " * 300_000, b"[" + b"0," * 100_000 + b"0]"),
    b'{"lines": [' + b"1," * 9_000 + b"1]}",
    b'{"notes": {' + b",".join(b'"%s%d": 1' % (CANARY.encode(), number) for number in range(5_000)) + b"}}",
]


def json_bytes(value: Any, *, ascii_only: bool = True) -> bytes:
    """Return a value as JSON, with placeholders replaced by numbers that only JSON's grammar allows."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    for placeholder, number in _PLACEHOLDERS.items():
        body = body.replace(json.dumps(placeholder).encode(), number)
    return body


def hostile_bodies() -> st.SearchStrategy[bytes]:
    """Generate bodies that are invalid JSON, borderline JSON, or JSON of an unexpected shape."""
    return st.one_of(
        st.sampled_from(_BROKEN_BODIES), st.binary(max_size=40), st.builds(json_bytes, JUNK, ascii_only=st.booleans())
    )


@st.composite
def mutated(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    """Generate values in which one to three parts are replaced, removed or added."""
    value = copy.deepcopy(draw(values))
    for _ in range(draw(st.integers(1, 3))):
        value = draw(_mutate(value))
    return value


@st.composite
def _mutate(draw: st.DrawFn, value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or draw(st.integers(0, 4)) == 0:
        if isinstance(value, dict):
            return value | {draw(_TEXT): draw(JUNK)}
        return draw(JUNK)
    key = draw(st.sampled_from(keys))
    if draw(st.booleans()):
        value[key] = draw(_mutate(value[key]))
    else:
        del value[key]
    return value


Schema = dict[str, Any]


def from_schema(schema: Schema, root: Schema | None = None, *, depth: int = 0) -> st.SearchStrategy[Any]:
    """Generate values that match a JSON Schema. Supports the keywords in the schemas of ``fuzz/functions.py``."""
    root = schema if root is None else root
    if "$ref" in schema:
        return from_schema(root["$defs"][schema["$ref"].rpartition("/")[2]], root, depth=depth + 1)
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if depth < 4 or option.get("type") == "null"]
        return st.one_of(*(from_schema(option, root, depth=depth + 1) for option in options))
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    if "type" not in schema:
        # surrogates are not valid in JSON
        return JUNK.filter(lambda value: "@huge" not in repr(value) and not re.search(r"\\ud[89a-f]", ascii(value)))
    return _BY_TYPE[schema["type"]](schema, root, depth)


def _array(schema: Schema, root: Schema, depth: int) -> st.SearchStrategy[Any]:
    items = from_schema(schema.get("items", {}), root, depth=depth + 1)
    return st.lists(items, max_size=min(schema.get("maxItems", 3), 3))


def _string(schema: Schema) -> st.SearchStrategy[str]:
    match schema.get("format"):
        case "uuid":
            return st.uuids().map(str)
        case "date-time":
            return st.datetimes(timezones=st.timezones()).map(lambda time: time.replace(tzinfo=None).isoformat() + "Z")
    if schema.get("pattern") == r"^\d{5}$":
        return st.from_regex(r"[0-9]{5}", fullmatch=True)
    return st.text(
        st.characters(exclude_categories=["Cs"]), max_size=max(schema.get("maxLength", 20) - len(CANARY), 0)
    ).map(lambda text: f"{text}{CANARY}")


def _object(schema: Schema, root: Schema, depth: int) -> st.SearchStrategy[Any]:
    properties = {
        name: from_schema(inner, root, depth=depth + 1)
        for name, inner in schema.get("properties", {}).items()
        if depth < 6 or name in schema.get("required", ())
    }
    required = {name: values for name, values in properties.items() if name in schema.get("required", ())}
    optional = {name: values for name, values in properties.items() if name not in required}
    fixed = st.fixed_dictionaries(required, optional=optional)
    additional = schema.get("additionalProperties")
    if not properties and additional is not False:
        inner = from_schema(additional if isinstance(additional, dict) else {"type": "string"}, root, depth=depth + 1)
        return st.dictionaries(_string({}), inner, max_size=3)
    return fixed


_BY_TYPE: dict[str, Callable[[Schema, Schema, int], st.SearchStrategy[Any]]] = {
    "null": lambda _schema, _root, _depth: st.none(),
    "boolean": lambda _schema, _root, _depth: st.booleans(),
    "integer": lambda _schema, _root, _depth: st.integers(-500, 500).map(lambda number: number * 2),
    "number": lambda schema, _root, _depth: st.floats(schema.get("minimum", -1e6), schema.get("maximum", 1e6)),
    "string": lambda schema, _root, _depth: _string(schema),
    "array": _array,
    "object": _object,
}
