"""SQL text: load it from files, quote names and values, and declare advisory lock numbers.

Nothing here uses a driver or a connection.
"""
