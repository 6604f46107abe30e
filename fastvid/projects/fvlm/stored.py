"""Checks of what is stored beside samples, rows of tokens and latents, against the model, before a run begins."""

import io
from collections.abc import Iterator, Sequence

import numpy as np

from fastvid.command import UserError
from fastvid.data import ChatFormat, Source
from fastvid.data.source import fields_of, latents_of
from fastvid.data.text.conversation import Conversation, TokenRow, conversations_of
from fastvid.projects.fvlm.config import FvlmConfig
from fastvid.video import DecodeError

_LOOKED_AT = 32  # samples of a collection that are looked at, at most


def check_tokens(config: FvlmConfig, sources: Sequence[Source], chat: ChatFormat) -> None:
    """Check that rows which were tokenized before are of the model's tokenizer, and have text to predict the first look
    from where the model needs it.

    Of some samples of each collection the ids are turned into text and that text into ids again, by the model's
    tokenizer. Those of another one do not come back, but for texts that both spell alike.

    Raises:
        UserError: less than half of them come back; or the first query is predicted from the text in front of the
            frames, and a row has none.
    """
    if not config.data.token_ids:
        return
    for source in sources:
        rows = list(_rows(source))
        known = sum(chat.knows(row) for row, _ in rows)
        if 2 * known < len(rows):
            raise UserError(
                f"{source.description}: of {len(rows)} rows of token_ids that were looked at, {known} are what the "
                "model's tokenizer makes of their text: give --model.language the model that they were made for, or "
                "--data.token-ids False to read the words that are stored beside them"
            )
        bare = [key for row, key in rows if key and not chat.row(Conversation((), tokens=row)).before]
        if bare and config.model.first_query == "text":
            raise UserError(
                f"{source.description}: in the token_ids of {bare[0]} nothing stands in front of the frames from which "
                "the first look could be predicted, since no question of the chat template leads to what is learnt: "
                "give --model.layout video-first and --model.first-query learnt"
            )


def check_latents(config: FvlmConfig, sources: Sequence[Source]) -> None:
    """Check that the latents that a run reconstructs are stored beside its videos, in the shape that is asked for.

    Raises:
        UserError: the first sample that is looked at has none, or of another shape.
    """
    wanted = (config.reconstruct.channels, config.reconstruct.side, config.reconstruct.side)
    for source in sources if config.stored_latents else ():
        index = next((i for i in some_of(source) if source.samples[i].kind != "text"), None)
        if index is None:
            continue
        try:
            data = latents_of(source, index)
            shape = None if data is None else np.load(io.BytesIO(data), allow_pickle=False).shape[1:]
        except (DecodeError, ValueError, EOFError, OSError):
            continue  # a bad sample, which training names
        if shape is None:
            raise UserError(
                f"{source.description}: no latents are stored beside {source.samples[index].key}: use "
                "--reconstruct.latents pixels"
            )
        if shape != wanted:
            raise UserError(
                f"{source.description}: the latents are of {' x '.join(map(str, shape))}: give --reconstruct.channels "
                f"{shape[0]} and --reconstruct.side {shape[-1]}"
            )


def _rows(source: Source) -> Iterator[tuple[TokenRow, str]]:
    """Yield the rows of some samples, each with the sample's key where it is about frames."""
    for index in some_of(source):
        try:
            fields = fields_of(source, index)
            talks = conversations_of(fields) if "token_ids" in fields else []
        except (ValueError, DecodeError):
            continue  # training names it
        sample = source.samples[index]
        for talk in talks:
            if talk.tokens is not None:
                yield talk.tokens, "" if sample.kind == "text" else sample.key


def some_of(source: Source) -> list[int]:
    """Return the numbers of at most 32 samples, spread evenly over a source."""
    count = len(source.samples)
    return sorted({number * count // _LOOKED_AT for number in range(_LOOKED_AT)}) if count else []
