"""From a source to batches: order, views, worker processes, shared memory. Knows the source's interface only."""
