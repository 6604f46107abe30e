"""``python -m fastvid.data``: check, info, index and demo."""
