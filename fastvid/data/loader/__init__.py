"""Batches of a source: order, views, worker processes, shared memory. Only the source's interface is used."""
