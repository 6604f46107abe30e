"""The check of a GPU: what runs, for how long, and what came of it. docs/gpu_check.md says how to use it."""
