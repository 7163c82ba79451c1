"""Benchmark of jobfn next to its peers: ``python -m benchmarks``."""
