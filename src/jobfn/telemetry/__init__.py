"""Logs, metrics and traces.

Metrics are plain numbers while jobs run (``metrics.py``); ``prometheus.py`` renders them for a scrape. The two sides
define theirs in ``function/metrics.py`` and ``worker/telemetry/metrics.py``.
"""
