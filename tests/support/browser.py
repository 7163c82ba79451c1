"""Chromium for the browser tests, and the errors of its pages."""

import os
import shutil
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from playwright.async_api import Page

#: The last flags stop Chromium's requests to Google at start.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Return the path of the browser: ``CHROMIUM``, or the system's."""
    name = os.environ.get("CHROMIUM")
    return shutil.which(name) if name else shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class PageErrors:
    """Script errors, console messages and requests to other hosts.

    Attributes:
        messages: All messages.
        expected: Substrings of messages that the test causes.
    """

    messages: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Collect the errors of a page."""
        page.on("pageerror", lambda error: self.messages.append(f"script: {error}"))
        page.on(
            "console",
            lambda message: self.messages.append(message.text) if message.type in {"error", "warning"} else None,
        )
        page.on("request", lambda request: self._same_host(page, request.url))

    def _same_host(self, page: Page, url: str) -> None:
        if urlsplit(url).hostname not in {"127.0.0.1", "localhost"}:
            self.messages.append(f"{page.url} requests {url}")

    def unexpected(self) -> list[str]:
        """Return the messages that the test does not cause."""
        return [each for each in self.messages if not any(part in each for part in self.expected)]


class OpenPage(Protocol):
    """The fixture ``open_page``: opens a URL in a new browser context; options are those of ``new_context``."""

    async def __call__(self, url: str, **options: Any) -> Page: ...
