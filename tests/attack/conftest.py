"""Fixtures of the attacks."""

from pathlib import Path

import pytest

from support.attack import FUNCTIONS, Production, StartProduction, start
from support.commands import Spawn
from support.dashboard import open_site
from support.jobs import Jobs

__all__ = ["open_site"]


@pytest.fixture
def start_production(spawn: Spawn, jobs: Jobs, database: str, tmp_path: Path) -> StartProduction:
    """Start a service, its dashboard and a function; URLs of other functions by task."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)

    async def start_all(**function_urls: str) -> Production:
        return await start(spawn, jobs, database, function_urls)

    return start_all
