"""Requests to servers that are not trusted, on httpx: a time limit for the whole exchange, and a maximum body."""

import asyncio
from collections.abc import Mapping
from typing import Final

import httpx

from jobfn.http.client import Response

#: Maximum size of a list of tasks.
MAX_LIST_BYTES: Final = 4 * 1024 * 1024


async def request(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    timeout_seconds: float,
    max_bytes: int,
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Send a request and return the response, whatever its status. The body is not decompressed.

    Raises:
        httpx.HTTPError: There was no response in time, or its body is larger than ``max_bytes`` or compressed.
        httpx.InvalidURL: The URL is invalid.
    """
    sent = {"Accept-Encoding": "identity", **(headers or {})}
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            client.stream(method, url, content=content, headers=sent) as response,
        ):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise httpx.DecodingError("its response is compressed, although the request asked for identity")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > max_bytes:
                    raise httpx.RemoteProtocolError(f"its response exceeds {max_bytes} bytes")
            return Response(response.status_code, response.headers, bytes(body))
    except TimeoutError:
        raise httpx.ReadTimeout(f"no response within {timeout_seconds:g} s") from None
