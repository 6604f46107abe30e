"""``python -m fastvid.cache``: a frozen teacher's latents of a data set, computed once and stored."""
