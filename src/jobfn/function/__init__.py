"""The function side: what ships in every function image. It has no database driver and starts quickly.

``task.py`` (a task) -> ``app.py`` (the ASGI app) -> ``asgi_app.py`` (one delivery, from request to response)
-> ``execution.py`` (one handler call) -> ``outcome.py`` (its outcome) -> ``reporter.py`` (reports to the callback
server). ``serve.py`` runs the app in its own process.
"""
