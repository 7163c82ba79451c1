"""Serve ``Operations`` as tools of the Model Context Protocol (MCP), for an assistant. Needs the ``mcp`` extra.

``serve.py`` (standard input and output, or HTTP on a loopback address) -> ``server.py`` -> ``read_tools.py``,
``change_tools.py`` -> ``confirmation.py`` (nothing changes before it is confirmed). ``plain_values.py`` limits and
cleans what the assistant reads.
"""
