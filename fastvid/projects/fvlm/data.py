"""The clips of an fVLM run and what is written about them: opened, split, and put into batches."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from fastvid.command import UserError, user_errors
from fastvid.data import (
    Batch,
    BatchMixtureSampler,
    BucketSampler,
    ChatFormat,
    DecodeOptions,
    EpochSampler,
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
from fastvid.data.loader.views import EVERY_EPOCH
from fastvid.data.source import KINDS, fields_of, kinds_of
from fastvid.data.splits.known_videos import videos_of
from fastvid.data.splits.protocols import Request, assign
from fastvid.data.text.conversation import conversations_of
from fastvid.latents import LatentLoader, LatentStore
from fastvid.projects.fvlm.config import FvlmConfig
from fastvid.projects.fvlm.curriculum import PartsInTurn
from fastvid.projects.fvlm.demo import cached_demo, demo_parts
from fastvid.projects.fvlm.evaluation import EvalBatch
from fastvid.projects.fvlm.measures import ALL
from fastvid.projects.fvlm.mixture import TrainMixture, frame_buckets, mixture_sampler, train_mixture
from fastvid.train.data import check_data, open_videos, view_spec
from fastvid.train.loader import Loader
from fastvid.train.logs import progress
from fastvid.train.optim import OptimConfig
from fastvid.train.session import Session
from fastvid.video import DecodeError, ViewSpec

log = logging.getLogger(__name__)


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
        mixture: the training samples, where they are of several kinds or collections.
    """

    whole: Source
    parts: Sequence[Source]
    val: Source
    test: Source
    views: ViewSpec
    has_tasks: bool
    mixture: TrainMixture | None = None

    @property
    def train(self) -> Source:
        """Return all training clips."""
        if self.mixture is not None:
            return self.mixture.source
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
    texts_alone = set((kinds_of(source) == KINDS.index("text")).nonzero()[0].tolist())  # trained on, and not tested
    training, *others = ({video.index for video in part} for part in parts.videos)
    train, val, test = (
        subset(source, [index in members for index in range(len(videos))])
        for members in (training | texts_alone, *(part - texts_alone for part in others))
    )
    views = view_spec(config.data)
    if config.data.lengths:
        views = replace(views, frames=config.data.lengths[-1], sampling="span")
    mixture = train_mixture(config.data, train)
    whole = source if mixture is None or not mixture.further else join({"1": source, **mixture.further})
    return FvlmData(whole, [train], val, test, views, has_tasks=False, mixture=mixture)


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
        latents: of the frames of each part, ``train``, ``val`` and ``test``, where they were computed before.
    """

    session: Session
    config: FvlmConfig
    data: FvlmData
    chat: ChatFormat
    decoder: str
    quarantine: Quarantine
    latents: Mapping[str, LatentStore] = field(default_factory=dict)

    @property
    def draws(self) -> PaddedDraws:
        """Return the training views: another one in each epoch, or always the one whose latents are kept."""
        kept = self.config.reconstruct.on and self.config.reconstruct.latents == "diffusers"
        count = 1 if kept else EVERY_EPOCH
        return PaddedDraws(self.data.views, self.config.run.seed, count, fps=self.fps)

    @property
    def fixed_draws(self) -> PaddedEvaluation:
        """Return the views of validation and test clips."""
        return PaddedEvaluation(self.data.views, fps=self.fps)

    @property
    def fps(self) -> float | None:
        """Return the most frames taken of each second of a video, None for no limit."""
        return self.config.data.used_fps

    def sampler(self, batch: int, state: LoaderState) -> EpochSampler:
        """Return the order of this process's training clips, of which ``batch`` are a global micro-batch."""
        world, seed, window = self.session.world, self.config.run.seed, self.config.data.window
        data, mixture = self.config.data, self.data.mixture
        if mixture is not None:
            return mixture_sampler(data, mixture.parts, batch, seed, world, state)
        if data.lengths:
            return BucketSampler(
                self.data.train, frame_buckets(data), seed=seed, window=window, rank=world.rank, world=world.size,
                start=state,
            )  # fmt: skip
        if len(self.data.parts) == 1:
            return EpochSampler(
                self.data.train.shard_sizes, batch=batch, seed=seed, window=window, rank=world.rank, world=world.size,
                start=state,
            )  # fmt: skip
        curriculum = self.config.curriculum
        return MixtureSampler(
            [part.shard_sizes for part in self.data.parts],
            PartsInTurn((curriculum.one_tile, curriculum.one_frame, curriculum.two_frames)),
            batch=batch, seed=seed, window=window, rank=world.rank, world=world.size, start=state,
        )  # fmt: skip

    @cached_property
    def collator(self) -> TextCollator:
        """Return what makes tensors of the training conversations, and counts those that were too long."""
        return self.collated(self.config.run.seed, self.config.data.questions)

    def collated(self, seed: int, questions: int) -> TextCollator:
        """Return what chooses conversations, and latents where they are wanted, and makes tensors of them."""
        data = self.config.data
        choice = TextChoice(seed, questions, data.prompt, data.token_ids, latents=self.config.stored_latents)
        return TextCollator(self.chat, choice, data.longest, data.image_looks)

    def report(self, stage: str, optim: OptimConfig) -> None:
        """Log how many clips a stage has shown at its end, how often each, and how many conversations were cut."""
        sampler, state = self.sampler(optim.micro_batch, LoaderState()), LoaderState()
        for _ in range(optim.steps * optim.accumulate):
            state = sampler.after(state)
        log.info("%s: %s", stage, sampler.coverage(state))
        if self.data.mixture is not None and isinstance(sampler, BatchMixtureSampler):
            for part, shown in zip(self.data.mixture.parts, sampler.part_coverage(state), strict=True):
                log.info("%s: of %s, %ss: %s", stage, part.name, part.kind, shown)
        if self.collator.cut:
            log.warning(
                "%d conversations so far were longer than --data.longest %d tokens, and were cut",
                self.collator.cut, self.config.data.longest,
            )  # fmt: skip

    def loader(self, batch: int, state: LoaderState) -> Loader:
        """Return the training batches from a state on."""
        data = self.config.data
        # The demo's clips are small: a decoding thread is enough, and leaves the rest to training.
        threads = 1 if data.threads is None and data.path == "demo" else data.threads
        with user_errors(ValueError):  # a run that goes on with other collections or batches than before
            sampler = self.sampler(batch, state)
        loader = TrainLoader(
            self.data.train, self.draws, sampler,
            options=DecodeOptions(self.decoder, threads, data.prefetch, cache_bytes=int(data.cache_gb * 2**30)),
            quarantine=self.quarantine, device=self.session.world.device,
            text=self.collator,
        )  # fmt: skip
        if not self.latents:
            return loader
        return LatentLoader(loader, self.latents["train"], self.session.world.device)

    def evaluated(self, part: Source) -> Iterator[EvalBatch]:
        """Yield all clips of a part in order, with the questions that are always asked about them."""
        data, test, device = self.config.data, self.config.test, self.session.world.device
        # Still images are batches of their own.
        indices = sorted(range(len(part.samples)), key=lambda index: part.samples[index].kind == "image")
        batches = eval_batches(
            part, indices, self.fixed_draws, batch=test.batch,
            quarantine=self.quarantine, threads=data.threads, device=device,
            text=self.collated(0, test.questions),
        )  # fmt: skip
        place = {sample.key: index for index, sample in enumerate(part.samples)}
        store = next((store for name, store in self.latents.items() if getattr(self.data, name) is part), None)
        for batch in batches:
            if store is not None:
                batch.latents = store.for_batch(batch)
            labels = batch.labels if self.data.has_tasks else [ALL] * len(batch.keys)
            tasks = [str(label) for label, text in zip(labels, batch.text, strict=True) for _ in text.conversations]
            yield EvalBatch(moved(batch, device), [place[key] for key in batch.keys], tasks)


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its clips, their latents and text on a device."""
    assert batch.clips is not None
    extra = {name: tensor.to(device) for name, tensor in batch.extra.items()}
    latents = None if batch.latents is None else batch.latents.to(device)
    return replace(batch, clips=batch.clips.to(device), latents=latents, extra=extra)
