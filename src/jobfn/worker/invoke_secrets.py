"""The secrets with which the worker proves to functions that a request is its own.

With ``JOBFN_INVOKE_SECRET`` all functions have the same one. With ``JOBFN_INVOKE_KEY`` each origin has its own, which
is derived from the key: a function that leaks or abuses its secret cannot call the others. Pure.
"""

import functools
import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Maximum number of URLs whose secrets are cached.
_MAX_URLS = 1000


class InvokeSecrets:
    """Returns the secret for a function.

    Args:
        secrets: ``JOBFN_INVOKE_SECRET``; the first one is used.
        keys: ``JOBFN_INVOKE_KEY``; the first one is used, and takes precedence.
    """

    def __init__(self, secrets: Sequence[str] = (), keys: Sequence[str] = ()) -> None:
        self._shared = secrets[0] if secrets else None
        self._derived = functools.lru_cache(_MAX_URLS)(functools.partial(derive_secret, keys[0])) if keys else None

    def for_url(self, url: str) -> str | None:
        """Return the secret to send to a URL; None: none is sent."""
        if self._derived is None:
            return self._shared
        try:
            return self._derived(url)
        except ValueError:  # a malformed URL: the request to it fails, with the reason
            return None


def derive_secret(key: str, url: str) -> str:
    """Return the secret of the function at a URL: it depends on scheme, host and port only.

    Raises:
        ValueError: The URL is malformed.
    """
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.hostname}:{parts.port or _DEFAULT_PORTS.get(parts.scheme)}"
    return hmac.digest(key.encode(), f"jobfn.invoke\n{origin}".encode(), "sha256").hex()
