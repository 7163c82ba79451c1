"""What tests in a browser speak of."""

import os
import shutil
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from playwright.async_api import Page

#: Without the last ones Chromium looks for hosts of its maker at every start.
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
    """Where the browser is: what ``CHROMIUM`` names, else the system's."""
    wanted = os.environ.get("CHROMIUM")
    return shutil.which(wanted) if wanted else shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Complaints:
    """What went wrong in the browser, and what is to be expected there.

    Attributes:
        heard: All of it.
        expected: Parts of complaints that the test brings about.
    """

    heard: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Listen to a page."""
        page.on("pageerror", lambda error: self.heard.append(f"script: {error}"))
        page.on(
            "console",
            lambda message: self.heard.append(message.text) if message.type in {"error", "warning"} else None,
        )
        page.on("request", lambda request: self._same_host(page, request.url))

    def _same_host(self, page: Page, url: str) -> None:
        if urlsplit(url).hostname not in {"127.0.0.1", "localhost"}:
            self.heard.append(f"{page.url} asks {url}")

    def unexpected(self) -> list[str]:
        """Those that no test brought about."""
        return [one for one in self.heard if not any(part in one for part in self.expected)]


class OpenPage(Protocol):
    """The fixture ``open_page``: a fresh browser window at a URL; options as of playwright's ``new_context``."""

    async def __call__(self, url: str, **options: Any) -> Page: ...
