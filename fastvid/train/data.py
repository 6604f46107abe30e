"""The videos that a configuration names, and how clips of them are loaded."""

import logging
from collections.abc import Callable
from pathlib import Path

from fastvid.command import UserError, user_errors
from fastvid.data import (
    BadSamplePolicy,
    DecodeOptions,
    EpochSampler,
    LoaderState,
    Quarantine,
    Source,
    TrainLoader,
    ViewDraws,
    open_parts,
)
from fastvid.data.demo.files import cached_demo
from fastvid.data.demo.render import DemoSize
from fastvid.data.inventory import Inventory
from fastvid.data.sources.filesystem import slow_filesystem_warning
from fastvid.train.config import DataConfig
from fastvid.train.logs import progress
from fastvid.train.session import Session
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)


def open_videos(config: DataConfig, opened: Callable[..., Source] = open_parts) -> Source:
    """Open ``config.path``, which is not the demo data set. Parts packed into folders of their own are opened as one.

    Args:
        config: the options.
        opened: opens the path, as :func:`fastvid.data.open_parts` does.

    Raises:
        UserError: there are no videos there.
    """
    with user_errors(OSError, ValueError):
        source = opened(
            config.path, config.labels, cache_dir=config.disk_dir, disk_bytes=int(config.disk_gb * 1e9),
            window=config.window, cameras=config.cameras,
        )  # fmt: skip
    log.info("data: %s", source.description)
    if "://" not in config.path and (warning := slow_filesystem_warning(config.path)):
        log.warning("%s", warning)
    return source


def check_data(session: Session, source: Source) -> None:
    """Compare the data with the record in the run's directory. A new run, or one that may go on with other data,
    records what the data holds now, once it trains.

    Args:
        session: of the run.
        source: all videos, before they are split.

    Raises:
        UserError: videos were added, removed or changed since.
    """
    if not session.world.is_main:
        return
    with user_errors(ValueError):
        before, now = Inventory.load(session.path), Inventory.from_source(source)
    session.inventory = now
    if before is None:
        if (session.path / "checkpoints").exists():
            log.info("which data this run was trained on until now was not written down; from here on it is")
        return
    changes = "; ".join(before.changes(now))
    if not changes:
        return
    if not session.launch.accept_changed:
        raise UserError(
            f"the data is not what this run was trained on: {changes}. Restore it, begin a new run, or give "
            "--accept-changed to go on with it as it is now, in another order"
        )
    log.warning("the data is not what this run was trained on until now, and is accepted: %s", changes)


def demo_folder(size: DemoSize) -> Path:
    """Return the folder of the demo data set, with ``train`` and ``test``, made if it is not in the cache yet."""
    with progress(size.train + size.test, 0, "demo videos") as bar:

        def show(done: int, total: int) -> None:
            if done == 1:
                log.info("making the demo data set: %d videos", total)
            bar.update()

        return cached_demo(size, show)


def view_spec(config: DataConfig) -> ViewSpec:
    """Return the view specification of a run: the fields of its configuration that have the same names."""
    with user_errors(ValueError):
        return ViewSpec.from_fields(vars(config))


def open_quarantine(session: Session, config: DataConfig) -> Quarantine:
    """Return the run's record of bad samples."""
    policy = BadSamplePolicy(config.bad_share, config.bad_files, config.bad_in_a_row)
    return Quarantine(session.path / "bad_samples.jsonl", policy, log.warning)


def epoch_sampler(
    session: Session, config: DataConfig, source: Source, *, batch: int, state: LoaderState, echo: int = 1
) -> EpochSampler:
    """Return the order of this process's training clips, of which ``batch`` are a global batch."""
    return EpochSampler(
        source.shard_sizes, batch=batch, seed=session.options.seed, window=config.window, echo=echo,
        rank=session.world.rank, world=session.world.size, start=state,
    )  # fmt: skip


def train_loader(
    session: Session,
    config: DataConfig,
    source: Source,
    draws: ViewDraws,
    sampler: EpochSampler,
    *,
    decoder: str,
    quarantine: Quarantine,
) -> TrainLoader:
    """Return the training batches for this process's device."""
    # The demo's videos are small and kept once they are decoded: a thread is enough, and leaves the rest to training.
    threads = 1 if config.threads is None and config.path == "demo" else config.threads
    options = DecodeOptions(decoder, threads, config.prefetch, cache_bytes=int(config.cache_gb * 2**30))
    return TrainLoader(source, draws, sampler, options=options, quarantine=quarantine, device=session.world.device)
