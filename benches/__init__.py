"""Benchmarks beside other packages: see README.md."""
