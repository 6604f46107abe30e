"""``python -m fastvid.train PROJECT``: recipes, one file each, over one small engine."""
