"""The worker and the callback server: one background role a file.

``claim.py`` (take jobs from the database) -> ``dispatch.py`` (POST each to its function) -> ``settle.py`` (write
down how it ended), driven by ``worker.py``. ``callbacks.py`` hears the functions' reports. ``service.py``, one level
up, puts them together.
"""
