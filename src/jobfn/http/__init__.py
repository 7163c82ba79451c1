"""HTTP server and client: the embedded server, the pooled client, and ASGI message helpers."""

from typing import Final

#: Final statuses whose responses never have a body.
NO_BODY_STATUSES: Final = frozenset({204, 304})
