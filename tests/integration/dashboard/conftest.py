"""Fixtures of the dashboard tests."""

import pytest

from support.dashboard import OpenSite, Site, open_site

__all__ = ["dashboard", "open_site"]


@pytest.fixture
async def dashboard(open_site: OpenSite) -> Site:
    return await open_site()
