"""The platform side's database: schema ``app_jobs`` and the only code that talks to it (contract, section 3).

``connection.py`` (an address, a pool) -> ``migrate.py`` (the schema) -> ``jobs.py`` (claim, settle, release).
SQL lives in ``schema/*.sql``, numbered migrations, and ``queries/*.sql``, one statement each.
"""
