"""The platform side's database: schema ``app_jobs`` and the only code that talks to it (contract, section 3).

``connection.py`` (an address, a pool) -> ``migrate.py`` (the schema) -> ``jobs.py`` (claim, settle, release).
SQL is in ``schema/*.sql``, numbered migrations, and ``queries/*.sql``, named statements.
"""
