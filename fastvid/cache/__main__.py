"""``python -m fastvid.cache``: stores a frozen teacher's latents, or verifies stored ones.

python -m fastvid.cache --teacher T --data.path SHARDS --out DIR          makes a cache, or goes on with one
python -m fastvid.cache verify DIR --teacher T --data.path SHARDS         recomputes a sample of it
"""

import sys
import time

import tyro
from tqdm import tqdm

from fastvid.command import DISK_FULL, UserError, command, loading, sentence
from fastvid.data.storage.remote import without_secrets
from fastvid.latents.config import CacheConfig, VerifyConfig
from fastvid.ranges import check_numbers

_FLAGS = (tyro.conf.FlagCreatePairsOff,)


@command
def main(arguments: list[str]) -> int:
    """Run a command and return the exit code."""
    verifying = arguments[:1] == ["verify"]
    if verifying:
        verified = tyro.cli(VerifyConfig, prog="python -m fastvid.cache verify", args=arguments[1:], config=_FLAGS)
        check_numbers(verified)
        return _verify(verified)
    config = tyro.cli(CacheConfig, prog="python -m fastvid.cache", args=arguments, config=_FLAGS)
    check_numbers(config)
    try:
        return _make(config)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(f"{sentence(error)}: finished shards are kept, and it goes on from there") from error


def _make(config: CacheConfig) -> int:
    with loading():
        from fastvid.latents.job import Shard, begin, open_job
        from fastvid.latents.plan import make_plan
        from fastvid.latents.shards import (
            Done,
            count_bad,
            latent_path,
            make_shard,
            shards_of_rank,
            unfinished_shards,
        )
        from fastvid.latents.stores import bad_list
        from fastvid.train.distributed import place_of_this_process
        from fastvid.units import size

    rank, world = place_of_this_process()
    job = open_job(config, write=False)
    every = job.shards()
    shards = unfinished_shards(job, every, retry_bad=config.retry_bad)
    processes = config.ray_workers if config.ray else world
    plan = make_plan(job, shards, processes)
    if rank == 0:
        print(f"teacher {config.teacher} on {job.encoder.device}, {job.manifest.precision}; {job.source.description}")
        print("\n".join(plan.lines(job.manifest)), flush=True)
    if config.plan:
        return 0
    if not plan.fits and not config.yes:
        raise UserError(
            f"{size(plan.missing)} do not fit into the {size(plan.free)} that are free at {config.out}: choose one of "
            "the forms above, make room, or say --yes"
        )
    job = begin(config, job)
    mine = (
        shards if config.ray else unfinished_shards(job, shards_of_rank(every, rank, world), retry_bad=config.retry_bad)
    )
    clips = sum(len(shard.rows) for shard in mine)
    made, started = 0, time.perf_counter()
    with tqdm(total=clips, unit="clip", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:

        def finished(shard: Shard, done: Done) -> None:
            nonlocal made
            made += len(shard.rows)
            bad = f", {done.bad} bad views: see {bad_list(latent_path(job, shard))}" if done.bad else ""
            tqdm.write(f"{shard.name}: {done.clips} of {len(shard.rows)} clips{bad}", file=sys.stdout)
            sys.stdout.flush()
            bar.update(max(0, made - bar.n))  # under Ray, whole shards are all that is heard of

        if config.ray and mine:
            from fastvid.latents.shards import make_with_ray

            make_with_ray(config, mine, finished)
        elif not config.ray:
            for place, shard in enumerate(mine):
                if latent_path(job, shard).exists() and not config.retry_bad:
                    continue  # another process was faster
                job.source.prefetch([shard.number], [following.number for following in mine[place + 1 : place + 2]])
                finished(shard, make_shard(job, shard, bar.update))
    seconds = time.perf_counter() - started
    left = len(unfinished_shards(job, every, retry_bad=False))
    bad = count_bad(job)
    print(f"{made} clips in {seconds:.1f} s, {made / max(seconds, 1e-9):.1f} clips/s" if made else "nothing to be done")
    if bad:
        print(f"{bad} views could not be decoded; *.bad.jsonl in {config.out} say why, --retry-bad tries them again")
    if left:
        print(f"{left} shards are not finished yet: other processes have them, or were stopped")
    else:
        path = without_secrets(config.data.path)
        print(f"complete: python -m fastvid.train salt --data.path {path} --latents {config.out}")
    return 0


def _verify(config: VerifyConfig) -> int:
    with loading():
        from fastvid.latents.job import reopen_job
        from fastvid.latents.verify import verify

    job = reopen_job(config.folder, config.teacher, config.data)
    verdict = verify(job, config.sample, config.seed)
    form = job.manifest.form
    print(
        f"{verdict.views} views of {form} latents recomputed in {job.manifest.precision} on {job.encoder.device}: "
        f"cosine at least {verdict.least_cosine:.6f} (must exceed {verdict.threshold}), of a single token at least "
        f"{verdict.least_token_cosine:.6f}; greatest error {verdict.greatest_error:.3g}, "
        f"{verdict.error_in_bounds:.2f} of what rounding to {form} allows"
    )
    if verdict.missing:
        print(f"{verdict.missing} more could not be decoded and are not in the cache")
    print("passed" if verdict.passed else "FAILED: these are not the latents of this teacher and these videos")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
