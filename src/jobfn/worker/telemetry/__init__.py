"""Logs, metrics and traces of the worker and the callback server."""
