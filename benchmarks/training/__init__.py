"""Benchmarks of whole training steps and loops."""
