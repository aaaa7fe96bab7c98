"""Benchmarks that a reader can run. Every speed is a ratio of things run in alternation in one process."""
