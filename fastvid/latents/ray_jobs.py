"""Shards dealt out to the workers of a Ray cluster."""

import logging
from collections.abc import Callable

from fastvid.command import UserError
from fastvid.latents.config import CacheConfig
from fastvid.latents.job import Shard, open_job
from fastvid.latents.shard_jobs import Done, make_shard


class _Worker:
    """Holds the teacher of one process."""

    def __init__(self, config: CacheConfig):
        self.job = open_job(config, write=True)

    def make(self, shard: Shard) -> tuple[Shard, Done]:
        self.job.source.prefetch([shard.number], [])
        return shard, make_shard(self.job, shard)


def make_with_ray(config: CacheConfig, shards: list[Shard], finished: Callable[[Shard, Done], None]) -> None:
    """Make shards on ``config.ray_workers`` workers; a worker that dies is started again and its shard begun anew.

    Paths in the options must mean the same on all machines. The cluster is the one that ``RAY_ADDRESS`` names, or one
    that is started on this machine and stopped in the end.

    Args:
        config: the options.
        shards: to be made.
        finished: called with each and what came of it, in the order in which they are finished.

    Raises:
        UserError: Ray is not installed.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise UserError("--ray needs Ray: pip install 'fastvid[ray]', or run without it") from error
    ray.init(ignore_reinit_error=True, logging_level=logging.WARNING, include_dashboard=False)
    try:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= config.ray_workers else 0
        kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=3, max_task_retries=3)(_Worker)
        workers = [kind.remote(config) for _ in range(min(config.ray_workers, len(shards)))]
        for shard, done in ActorPool(workers).map_unordered(lambda worker, shard: worker.make.remote(shard), shards):
            finished(shard, done)
    finally:
        ray.shutdown()
