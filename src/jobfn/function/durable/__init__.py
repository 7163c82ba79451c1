"""Durable functions: steps whose results are kept, sleeps, signals and child jobs.

``methods.py`` has the methods of ``JobContext``. ``run.py`` knows what has been recorded, and when a delivery parks.
``step.py`` runs steps, ``results.py`` stores their results as JSON, ``children.py`` calls other tasks, ``clients.py``
talks to the callback server. All but the first are imported by the first durable call of a process.
"""
