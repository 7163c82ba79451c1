"""jobfn measured beside its peers, in one run: ``python -m benchmarks``. ``__main__.py`` is where it starts."""
