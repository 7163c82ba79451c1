"""The dashboard: shows jobs, schedules, triggers and workers in a browser, and changes and enqueues jobs.

``server.py`` serves it; ``app.py`` builds the ASGI app. It accesses jobs only through ``jobfn.operations`` and contains
no SQL.
"""
