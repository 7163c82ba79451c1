"""SQL text: loading it from files, quoting names and values, and the numbers of advisory locks.

Below ``jobfn.client`` and ``jobfn.database``: nothing here knows a driver or a connection.
"""
