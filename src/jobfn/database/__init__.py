"""The jobs schema ``app_jobs`` (contract, section 3), and the code of the platform side that accesses it.

``connection.py`` opens connections, ``migrate.py`` installs the schema of ``schema/*.sql``, and ``open_store.py``
returns the store that claims and settles jobs. Their statements are in ``queries/*.sql``. ``schema.sql`` is a snapshot
of the whole schema, for reviews.
"""
