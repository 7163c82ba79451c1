"""W3C Trace Context: the trace a job belongs to, as stored in its row and sent in HTTP headers. Pure.

``telemetry/tracing.py`` creates the spans.
"""

import re
from dataclasses import dataclass
from typing import Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

#: Version ff and ids of zeros are invalid in the standard.
_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: Characters that a header can carry, and the standard's maximum length.
_STATE: Final = re.compile(r"[ -~]{1,512}")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A position in a trace: W3C's ``traceparent`` and ``tracestate``."""

    parent: str
    state: str | None = None

    @classmethod
    def parse(cls, parent: str | None, state: str | None = None) -> "TraceContext | None":
        """Validate the two values. Return None if the parent is absent or malformed, as the standard requires."""
        if parent is None or not _PARENT.fullmatch(parent):
            return None
        return cls(parent, state if state is not None and _STATE.fullmatch(state) else None)

    def headers(self) -> dict[str, str]:
        """Return the headers that propagate the trace."""
        headers = {TRACEPARENT: self.parent}
        if self.state is not None:
            headers[TRACESTATE] = self.state
        return headers
