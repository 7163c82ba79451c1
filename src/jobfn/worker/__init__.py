"""The worker and the callback server.

``worker.py`` claims jobs and delivers them (``dispatch.py``). ``in_flight.py`` follows each claimed job until its
settlement, which ``settlement.py`` commits. ``callbacks.py`` settles jobs by their functions' reports.
``jobfn/service.py`` runs both.
"""
