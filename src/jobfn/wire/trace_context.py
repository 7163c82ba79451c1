"""W3C Trace Context: which trace a job belongs to, as it stands in its row and in HTTP headers. Pure.

``wire`` reads it, ``tracing.py`` makes spans of it.
"""

import re
from dataclasses import dataclass
from typing import Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

#: As W3C's Trace Context has it; version ff and ids of zeros are none.
_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: What a header can carry, and its length in the standard.
_STATE: Final = re.compile(r"[ -~]{1,512}")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where in which trace something happens, in the form of W3C's headers.

    Attributes:
        parent: ``traceparent``.
        state: ``tracestate``, if there is one.
    """

    parent: str
    state: str | None = None

    @classmethod
    def parse(cls, parent: str | None, state: str | None = None) -> "TraceContext | None":
        """What these two say; None where the first is absent or malformed, as the standard wants it."""
        if parent is None or not _PARENT.fullmatch(parent):
            return None
        return cls(parent, state if state is not None and _STATE.fullmatch(state) else None)

    def headers(self) -> dict[str, str]:
        """The headers that hand it on."""
        headers = {TRACEPARENT: self.parent}
        if self.state is not None:
            headers[TRACESTATE] = self.state
        return headers
