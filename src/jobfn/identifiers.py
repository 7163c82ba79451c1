"""Names of schemas and roles as SQL reads them: the one thing beside values that is ever put into a statement's text.

Used by ``database/statements.py`` on the platform side and ``client/statements.py`` in anybody's own code.
"""

import re

from jobfn.errors import ConfigurationError

MAX_IDENTIFIER_BYTES = 63


def quote_identifier(name: str, *, what: str = "schema") -> str:
    """A name as SQL reads it, whatever characters it holds.

    Args:
        name: The name.
        what: Of what, for the error: ``schema`` or ``role``.

    Raises:
        ConfigurationError: PostgreSQL has no such names: empty, over 63 bytes, holding a NUL, or no text.
    """
    is_text = not re.search("[\0\ud800-\udfff]", name)
    if not name or not is_text or len(name.encode("utf-8", "surrogatepass")) > MAX_IDENTIFIER_BYTES:
        if what == "schema":
            raise ConfigurationError(f"JOBS_SCHEMA={name!r} is no schema name: use 1 to 63 bytes, such as app_jobs")
        raise ConfigurationError(f"{name!r} is no {what}'s name: use 1 to 63 bytes")
    return '"' + name.replace('"', '""') + '"'
