"""The file format: tar shards, their indexes, readers and writers."""
