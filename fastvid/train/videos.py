"""The videos that a configuration names."""

import logging
from pathlib import Path

from fastvid.data import Source, open_parts
from fastvid.data.demo_files import DemoSize, cached_demo
from fastvid.data.filesystem import slow_filesystem_warning
from fastvid.train.config import DataConfig
from fastvid.train.logs import progress
from fastvid.train.session import UserError

log = logging.getLogger(__name__)


def open_videos(config: DataConfig) -> Source:
    """Opens ``config.path``, which is not the demo data set; parts that were packed into folders of their own, as one.

    Raises:
        UserError: there are no videos there.
    """
    try:
        source = open_parts(
            config.path, config.labels, cache_dir=config.disk_dir, disk_bytes=int(config.disk_gb * 1e9),
            window=config.window,
        )  # fmt: skip
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error)) from error
    log.info("data: %s", source.description)
    if "://" not in config.path and (warning := slow_filesystem_warning(config.path)):
        log.warning("%s", warning)
    return source


def demo_folder(size: DemoSize) -> Path:
    """The demo data set, a folder with ``train`` and ``test``; made if it is not in the cache yet."""
    with progress(size.train + size.test, 0, "demo videos") as bar:

        def show(done: int, total: int) -> None:
            if done == 1:
                log.info("making the demo data set: %d videos", total)
            bar.update()

        return cached_demo(size, show)
