"""Several databases in one service (``JOBS_DATABASES``). Loaded with that setting only.

Each database has its own connections, listener, worker, callback app, scheduler and maintenance
(``database_service.py``). They share the slots (``worker/slots.py``), the callback server, whose paths name the
database, and the ports for health and metrics.
"""
