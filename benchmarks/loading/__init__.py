"""Benchmarks of loading clips, and of stored latents."""
