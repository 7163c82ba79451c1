"""``jobfn dev``: an embedded PostgreSQL, the function app with reload on save, and the platform side.

``postgres.py`` (the database) -> ``reload.py`` (the function's process) -> ``dev.py`` (everything together).
"""
