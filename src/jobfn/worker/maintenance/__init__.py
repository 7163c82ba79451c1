"""Maintenance tasks of a service: heartbeat, pruning of the history and of ended jobs, and vacuum of the jobs table.

``tasks.py`` starts those that the service's roles need. ``periodic.py`` holds what they share.
"""
