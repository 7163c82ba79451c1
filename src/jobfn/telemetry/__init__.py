"""Metrics: plain numbers while jobs run, Prometheus' text when somebody asks.

``numbers.py`` counts, and costs a dictionary look-up. What is counted stands in ``function/measures.py`` and
``worker/measures.py``, one for each side. ``text.py`` turns it into an answer to a scrape; only that loads
prometheus-client.
"""
