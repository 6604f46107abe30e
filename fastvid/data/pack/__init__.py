"""Packs collections of videos into tar shards."""
