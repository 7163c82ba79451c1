"""Fixtures of the attacks."""

from support.dashboard import open_site

__all__ = ["open_site"]
