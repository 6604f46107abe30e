"""Labels from tables, lists and folder names."""
