"""The clips of an fVLM run and what is written about them: opened, split, and put into batches."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from fastvid.command import UserError, user_errors
from fastvid.data import (
    Batch,
    BucketSampler,
    ChatFormat,
    DecodeOptions,
    EpochSampler,
    FrameBuckets,
    LoaderState,
    MixtureSampler,
    PaddedDraws,
    PaddedEvaluation,
    Quarantine,
    Source,
    TextChoice,
    TextCollator,
    TrainLoader,
    eval_batches,
    join,
    open_described,
    open_source,
    subset,
)
from fastvid.data.source import fields_of
from fastvid.data.splits.known_videos import videos_of
from fastvid.data.splits.protocols import Request, assign
from fastvid.data.text.conversation import conversations_of
from fastvid.projects.fvlm.config import FvlmConfig
from fastvid.projects.fvlm.curriculum import PartsInTurn
from fastvid.projects.fvlm.demo import cached_demo, demo_parts
from fastvid.projects.fvlm.evaluation import EvalBatch
from fastvid.projects.fvlm.measures import ALL
from fastvid.train.data import check_data, open_videos, view_spec
from fastvid.train.logs import progress
from fastvid.train.optim import OptimConfig
from fastvid.train.session import Session
from fastvid.video import DecodeError, ViewSpec

log = logging.getLogger(__name__)

_FPS = 1.0  # most frames of each second, where clips have lengths of their own and data.max_fps says nothing


@dataclass(frozen=True)
class FvlmData:
    """The clips of a run.

    Attributes:
        whole: all of them, before they are split.
        parts: training clips, in the order of the curriculum; one part without.
        val: validation clips.
        test: clips that are looked at once, at the end.
        views: what a clip is.
        has_tasks: whether a clip's label is the task of its questions, as in the demo.
    """

    whole: Source
    parts: Sequence[Source]
    val: Source
    test: Source
    views: ViewSpec
    has_tasks: bool

    @property
    def train(self) -> Source:
        """Return all training clips."""
        return self.parts[0] if len(self.parts) == 1 else join({f"{n}": s for n, s in enumerate(self.parts, 1)})

    def counts(self) -> dict[str, int]:
        """Return the number of clips of each part."""
        return {name: len(getattr(self, name).samples) for name in ("train", "val", "test")}


def open_data(session: Session, config: FvlmConfig) -> FvlmData:
    """Open the clips that a configuration names, and split them; make the demo's if they are not in the cache yet.

    Raises:
        UserError: there are no clips there, or too few.
    """
    data = _open_demo(config) if config.data.path == "demo" else _open_own(config)
    check_data(session, data.whole)
    empty = [name for name, count in data.counts().items() if not count]
    if empty:
        raise UserError(f"{config.data.path}: no clips for {' and '.join(empty)}: give more, or other --data.shares")
    log.info("clips: %s", ", ".join(f"{count:,} to {name}" for name, count in data.counts().items()))
    return data


def _open_demo(config: FvlmConfig) -> FvlmData:
    demo = config.demo
    with progress(demo.train + demo.val + demo.test, 0, "demo clips") as bar, user_errors(OSError, ValueError):

        def show(done: int, total: int) -> None:
            if done == 1:
                log.info("making the demo's clips: %d", total)
            bar.update()

        folder = cached_demo(demo, show)
        sources = {name: open_source(folder / name) for name in demo_parts(demo)}
    views = replace(view_spec(config.data), frames=demo.frames, size=demo.size, sampling="span")
    *parts, val, test = sources.values()
    return FvlmData(join(sources), parts, val, test, views, has_tasks=True)


def _open_own(config: FvlmConfig) -> FvlmData:
    source = open_videos(config.data, open_described)
    videos = list(videos_of(source))
    request = Request(config.data.shares, config.run.seed, lambda name: None)
    with user_errors(ValueError):
        folders = any(name in ("train", "val", "test") for video in videos for name in video.name.split("/")[:-1])
        parts = assign("folders" if folders else "random", videos, request)
    for note in parts.notes:
        log.info("%s", note)
    train, val, test = (
        subset(source, [index in members for index in range(len(videos))])
        for members in ({video.index for video in part} for part in parts.videos)
    )
    views = view_spec(config.data)
    if config.data.lengths:
        views = replace(views, frames=config.data.lengths[-1], sampling="span")
    return FvlmData(source, [train], val, test, views, has_tasks=False)


def texts(source: Source, prompt: str) -> Iterator[str]:
    """Yield all questions and answers that are written about the videos of a source; videos about which nothing usable
    is written are passed over: training names them."""
    for index, sample in enumerate(source.samples):
        try:
            talks = conversations_of(fields_of(source, index), sample.caption, prompt)
        except (ValueError, DecodeError):
            continue
        for talk in talks:
            for turn in talk.turns:
                yield turn.question
                yield turn.answer


@dataclass(frozen=True)
class Clips:
    """The batches of a run.

    Attributes:
        session: of the run.
        config: of the run.
        data: the clips.
        chat: how conversations become token ids.
        decoder: the run's decoder.
        quarantine: where clips that cannot be used go.
    """

    session: Session
    config: FvlmConfig
    data: FvlmData
    chat: ChatFormat
    decoder: str
    quarantine: Quarantine

    @property
    def fps(self) -> float | None:
        """Return the most frames taken of each second of a video, None for no limit."""
        return self.config.data.max_fps or (_FPS if self.config.data.lengths else None)

    def sampler(self, batch: int, state: LoaderState) -> EpochSampler:
        """Return the order of this process's training clips, of which ``batch`` are a global micro-batch."""
        world, seed, window = self.session.world, self.config.run.seed, self.config.data.window
        data = self.config.data
        if data.lengths:
            buckets = FrameBuckets(data.lengths, self.fps or _FPS, data.budget)
            return BucketSampler(
                self.data.train, buckets, seed=seed, window=window, rank=world.rank, world=world.size, start=state
            )
        if len(self.data.parts) == 1:
            return EpochSampler(
                self.data.train.shard_sizes, batch=batch, seed=seed, window=window, rank=world.rank, world=world.size,
                start=state,
            )  # fmt: skip
        curriculum = self.config.curriculum
        return MixtureSampler(
            [part.shard_sizes for part in self.data.parts], PartsInTurn((curriculum.one_frame, curriculum.few_tiles)),
            batch=batch, seed=seed, window=window, rank=world.rank, world=world.size, start=state,
        )  # fmt: skip

    @cached_property
    def collator(self) -> TextCollator:
        """Return what makes tensors of the training conversations, and counts those that were too long."""
        return TextCollator(self.chat, self.config.data.questions, self.config.data.longest)

    def report(self, stage: str, optim: OptimConfig) -> None:
        """Log how many clips a stage has shown at its end, how often each, and how many conversations were cut."""
        sampler, state = self.sampler(optim.micro_batch, LoaderState()), LoaderState()
        for _ in range(optim.steps * optim.accumulate):
            state = sampler.after(state)
        log.info("%s: %s", stage, sampler.coverage(state))
        if self.collator.cut:
            log.warning(
                "%d conversations so far were longer than --data.longest %d tokens, and were cut",
                self.collator.cut, self.config.data.longest,
            )  # fmt: skip

    def loader(self, batch: int, state: LoaderState) -> TrainLoader:
        """Return the training batches from a state on."""
        data, seed = self.config.data, self.config.run.seed
        draws = PaddedDraws(self.data.views, seed, fps=self.fps)
        # The demo's clips are small: a decoding thread is enough, and leaves the rest to training.
        threads = 1 if data.threads is None and data.path == "demo" else data.threads
        return TrainLoader(
            self.data.train, draws, self.sampler(batch, state),
            options=DecodeOptions(self.decoder, threads, data.prefetch, cache_bytes=int(data.cache_gb * 2**30)),
            quarantine=self.quarantine, device=self.session.world.device,
            text=TextChoice(seed, data.questions, data.prompt),
            collate=self.collator,
        )  # fmt: skip

    def evaluated(self, part: Source) -> Iterator[EvalBatch]:
        """Yield all clips of a part in order, with the questions that are always asked about them."""
        data, test, device = self.config.data, self.config.test, self.session.world.device
        batches = eval_batches(
            part, range(len(part.samples)), PaddedEvaluation(self.data.views, fps=self.fps), batch=test.batch,
            quarantine=self.quarantine, threads=data.threads, device=device,
            text=TextChoice(0, test.questions, data.prompt),
            collate=TextCollator(self.chat, test.questions, data.longest),
        )  # fmt: skip
        place = {sample.key: index for index, sample in enumerate(part.samples)}
        for batch in batches:
            labels = batch.labels if self.data.has_tasks else [ALL] * len(batch.keys)
            tasks = [str(label) for label, text in zip(labels, batch.text, strict=True) for _ in text.conversations]
            yield EvalBatch(moved(batch, device), [place[key] for key in batch.keys], tasks)


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its clips and text on a device."""
    assert batch.clips is not None
    extra = {name: tensor.to(device) for name, tensor in batch.extra.items()}
    return replace(batch, clips=batch.clips.to(device), extra=extra)
