"""The reading of a row: the language model takes it part by part, and frames are looked at."""

import inspect
from typing import Any

import torch
from transformers import DynamicCache

from .vision_fvlm import Keys


class Reader:
    """The language model, reading rows of embeddings part by part.

    Args:
        decoder: the language model without its output layer.
        shape: B and n, rows and the tokens that are to be read of each.
        cache: of what was read before, or None.
        mask: [B, past + n], 1 where a token is real; None where all are.
        positions: int64 [B, n], or None to count real tokens.
    """

    def __init__(
        self,
        decoder: Any,
        shape: tuple[int, int],
        cache: Any = None,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ):
        self.decoder, self.cache, self.past = decoder, cache, 0 if cache is None else cache.get_seq_length()
        known = inspect.signature(decoder.forward).parameters
        self.cache_name = "cache" if "cache" in known else "past_key_values"  # as transformers named it before
        rows, count = shape
        if mask is None:
            mask = torch.ones(rows, self.past + count, dtype=torch.int64, device=decoder.device)
        if mask.dim() != 2:
            raise ValueError("the mask must be [rows, tokens]: use the dynamic cache, which is the default")
        self.mask = mask
        counted = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -count:]
        self.positions = counted if positions is None else positions
        self.done = 0

    def keep(self) -> None:
        """Keep what is read, for the parts behind it."""
        self.cache = DynamicCache() if self.cache is None else self.cache

    def real(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return whether tokens are real, by their rows and columns among those that are to be read."""
        return self.mask[rows, self.past + columns].bool()

    def read(self, embeds: torch.Tensor) -> torch.Tensor:
        """Read the next tokens [B, k, W]. Return their hidden states."""
        here = slice(self.done, self.done + embeds.shape[1])
        self.done = here.stop
        held = {} if self.cache is None else {self.cache_name: self.cache}
        return self.decoder(
            inputs_embeds=embeds, attention_mask=self.mask[:, : self.past + here.stop],
            position_ids=self.positions[:, here], use_cache=self.cache is not None, **held,
        ).last_hidden_state  # fmt: skip

    def draft(self, embeds: torch.Tensor) -> torch.Tensor:
        """Read the first tokens [B, k, W] and forget them. Return their hidden states."""
        k = embeds.shape[1]
        return self.decoder(
            inputs_embeds=embeds, attention_mask=self.mask[:, :k], position_ids=self.positions[:, :k], use_cache=False
        ).last_hidden_state


class Looks:
    """The looks at the frames of B rows, m in all.

    Args:
        model: the model.
        frames: bool [B, n], the frame tokens.
        pixels: [B, T, 3, H, W].
        reader: of the rows.

    Attributes:
        rows: int64 [m], row of each look.
        columns: int64 [m], place of its frame token in the row.
        numbers: int64 [m], number of its frame in the row.
        most: frames of the row that has most.
    """

    def __init__(self, model: Any, frames: torch.Tensor, pixels: torch.Tensor | None, reader: Reader):
        if pixels is None:
            raise ValueError("the text has frame tokens: give the frames, as pixel_values_videos")
        if reader.past:
            raise ValueError("a video is read in one call with the text in front of it: there is a cache already")
        begins = frames.long().diff(dim=1, prepend=frames.new_zeros(len(frames), 1).long()) > 0
        if int(begins.sum(1).max()) > 1:
            raise ValueError("a row has one video or picture, whose frame tokens stand side by side")
        self.rows, self.columns = frames.nonzero(as_tuple=True)
        self.numbers = (frames.long().cumsum(1) - 1)[self.rows, self.columns]
        self.most = int(self.numbers.max()) + 1
        if self.most > pixels.shape[1] > 1 or not pixels.shape[1]:
            raise ValueError(f"a row has {self.most} frame tokens, and there are {pixels.shape[1]} frames")
        self.model, self.count, self.reader = model, len(frames), reader
        self.pixels = pixels.to(model.encoder.prefix.dtype)
        self.keys: Keys | None = None  # of all frames, or of pictures, which all looks of a row share
        self.kept: list[tuple[torch.Tensor, list[torch.Tensor]]] = []

    def query(self, which: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """Return the queries [k, D] of k looks.

        Args:
            which: int64 [k], the looks.
            hidden: [k, W], hidden states of the tokens in front of their frames; None where there is none.
        """
        first = self.model.first_query.expand(len(which), -1)
        if hidden is None:
            return first
        if self.model.config.first_query == "learnt":
            learnt = self.numbers[which] == 0
        else:  # the first one is predicted, too, unless nothing is in front
            before = self.columns[which] - 1
            learnt = (before < 0) | ~self.reader.real(self.rows[which], before.clamp(min=0))
        return torch.where(learnt[:, None], first, self.model.predict(hidden))

    def tokens(self, which: torch.Tensor, queries: torch.Tensor, keep: bool = True) -> torch.Tensor:
        """Look with queries [k, D]. Return visual tokens [k, W].

        Args:
            which: int64 [k], the looks, ascending.
            queries: one for each.
            keep: keep the attention.
        """
        model, rows, numbers = self.model, self.rows[which], self.numbers[which]
        entered = model.enter(queries)
        if self.pixels.shape[1] == 1:  # pictures: all looks of a row are queries of one frame
            if self.keys is None:
                self.keys = model.encoder.encode(self.pixels[:, 0])
            slots = entered.new_zeros(self.count, self.most, entered.shape[-1]).index_put((rows, numbers), entered)
            seen, gaze = model.encoder.look(slots, self.keys)
            seen, gaze = seen[rows, numbers], [layer[rows, numbers] for layer in gaze]
        else:
            seen, gaze = model.encoder.look(entered[:, None], self.keys_of(rows, numbers))
            seen, gaze = seen[:, 0], [layer[:, 0] for layer in gaze]
        if keep:
            self.kept.append((which, gaze))
        return (model.config.token_scale * model.token(model.leave(seen))).to(model.get_input_embeddings().weight.dtype)

    def keys_of(self, rows: torch.Tensor, numbers: torch.Tensor) -> Keys:
        """Return the keys of frames: where all are asked for at once, they are kept for another pass over them."""
        if len(rows) < len(self.rows):
            return self.model.encoder.encode(self.pixels[rows, numbers])
        if self.keys is None:
            self.keys = self.model.encoder.encode(self.pixels[rows, numbers])
        return self.keys

    def gaze(self) -> tuple[torch.Tensor, ...]:
        """Return the attention that was kept, of each layer float32 [B, T, heads, N]."""
        found = []
        for layer, one in enumerate(self.kept[0][1]):
            whole = one.new_zeros(self.count, self.most, *one.shape[1:])
            for which, parts in self.kept:
                whole[self.rows[which], self.numbers[which]] = parts[layer]
            found.append(whole)
        return tuple(found)
