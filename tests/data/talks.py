"""Shards of videos with conversations, and a loader of them."""

import re

import torch

from fastvid.data import (
    ChatFormat,
    DecodeOptions,
    PaddedDraws,
    ShardWriter,
    TextChoice,
    TextCollator,
    TrainLoader,
    open_source,
)  # fmt: skip
from fastvid.video import ViewSpec
from tests.data.chatting import tokenizer
from tests.video.clips import encode

SPEC = ViewSpec(frames=4, size=16, scale=(1, 1), ratio=(1, 1), flip=0.0)
CHAT = ChatFormat(tokenizer("what is this a cat really yes it be brief " + " ".join(str(n) for n in range(99))))
VIDEO = encode(12)


def talk(*pairs: tuple[str, str]) -> dict:
    turns = [[{"from": "human", "value": asked}, {"from": "gpt", "value": answer}] for asked, answer in pairs]
    return {"conversations": turns}


def write_talks(folder, count=20, shard=3):
    """Write ``count`` samples with six conversations each, in shards of ``shard`` samples."""
    with ShardWriter(folder, "s") as writer:
        for number in range(count):
            pairs = [(f"what {question}", f"{number} {question}") for question in range(6)]
            writer.add(f"{number:02d}", ".mp4", VIDEO, extra=talk(*pairs))
            if number % shard == shard - 1:
                writer.close()
    return open_source(folder)


def talk_loader(source, sampler, questions=2, spec=SPEC, fps=None, **options):
    quarantine = options.pop("quarantine", None)
    return TrainLoader(
        source, PaddedDraws(spec, sampler.seed, fps=fps), sampler, options=DecodeOptions(**options),
        quarantine=quarantine, text=TextCollator(CHAT, TextChoice(sampler.seed, questions)),
    )  # fmt: skip


def numbers_of(batch) -> list[int]:
    return [int(re.sub(r".*/", "", key)) for key in batch.keys]


def take(source, sampler, count, **options):
    with talk_loader(source, sampler, **options) as loader:
        return [(next(loader), loader.state) for _ in range(count)]


def same(a, b) -> bool:
    tensors = all(torch.equal(a.extra[name], b.extra[name]) for name in a.extra)
    return tensors and a.keys == b.keys and torch.equal(a.clips, b.clips)
