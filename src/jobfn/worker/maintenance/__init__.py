"""Maintenance tasks that a service runs beside its jobs: heartbeat, pruning, vacuum."""
