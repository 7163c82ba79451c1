"""The dashboard: what waits, what fails and why, in a browser, and the buttons to act on it.

``serving.py`` runs it beside a database; ``app.py`` puts the pages together. It sees jobs through
``jobfn.operations`` alone and holds no SQL of its own.
"""
