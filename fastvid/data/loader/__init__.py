"""From a source to batches: order, views, worker processes, shared memory. Only the source's interface is used."""
