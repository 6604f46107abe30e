"""Remote bytes and the disk cache."""
