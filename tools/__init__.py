"""Tools for those who work on fastvid."""
