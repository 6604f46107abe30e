"""Choice of a run's decoder: made once, recorded in the run, kept when it is resumed."""

import logging

from fastvid.data import Source
from fastvid.data.loader.sample_views import sample_views
from fastvid.train.config import DataConfig
from fastvid.train.distributed import broadcast_text
from fastvid.train.session import Session, UserError
from fastvid.video import ViewSpec
from fastvid.video.decoders import GPU_DECODERS, DecoderUnavailable, require
from fastvid.video.measure_decoders import resolve

log = logging.getLogger(__name__)


def choose_decoder(session: Session, config: DataConfig, source: Source, views: ViewSpec) -> str:
    """Choose the decoder of a run; for ``"auto"`` the fastest one on this machine for these videos.

    Raises:
        UserError: it cannot run here, does not fit the other options, or none of the videos can be read.
    """
    chosen: str | None = None
    try:
        if config.decode != "auto":
            require(config.decode, session.world.device.type)
            chosen = config.decode
        elif session.world.is_main:
            chosen = _recorded(session) or _measured(source, views)
    except (DecoderUnavailable, ValueError) as error:
        raise UserError(f"{error}; choose another --data.decode") from error
    chosen = broadcast_text(session.world, chosen)
    if chosen in GPU_DECODERS and config.cache_gb:
        raise UserError(
            f"{chosen} leaves no frames in the processor's memory to keep: set --data.cache-gb 0, or --data.decode pyav"
        )
    session.record(decoder=chosen)
    return chosen


def _recorded(session: Session) -> str | None:
    recorded = None if session.run is None else session.run.metadata().get("decoder")
    if recorded is not None:
        # Another one could give other pixels, and the run would not be the same run any more.
        require(recorded, session.world.device.type)
        log.info("decoding with %s, as this run did before", recorded)
    return recorded


def _measured(source: Source, views: ViewSpec) -> str:
    samples, left_out = sample_views(source, views)
    for sentence in left_out:
        log.warning("%s", sentence)
    chosen, why = resolve("auto", samples)
    log.info("%s", why)
    return chosen
