"""One module a family of figures. Each has ``measure(bench) -> Family``; ``benchmarks.__main__`` runs them in order."""
