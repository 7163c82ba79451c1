"""The function side: what ships in every function image. No database driver, quick to start.

``task.py`` (what a handler is) -> ``app.py`` (the ASGI app) -> ``delivery.py`` (one delivery, from request to answer)
-> ``outcome.py`` (how it ended) -> ``reporter.py`` (telling the callback server). ``serve.py`` runs the app in a
process of its own.
"""
