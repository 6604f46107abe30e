"""From a path or URL to a source: folders, shards, concatenations, subsets."""
