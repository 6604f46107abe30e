"""Benchmarks of the ops, and the tools they are measured and reported with."""
