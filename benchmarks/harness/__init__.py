"""Timing, guards, records and byte models of the benchmarks."""
