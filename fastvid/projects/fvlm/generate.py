"""Answers, token by token: frames come one at a time, and the language model keeps what it has read."""

from collections.abc import Iterable, Iterator, Sequence

import torch

from fastvid.data import ChatFormat
from fastvid.projects.fvlm.encoder import Gaze, Keys
from fastvid.projects.fvlm.language import Reading
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Kind, Mode


class Answer:
    """The answer to one question about one video, made while it is iterated: pieces of text.

    In the modes ``coarse`` and ``stream`` one frame is in memory at a time, and frames are taken when they are needed;
    ``parallel`` reads the video twice and keeps its keys and values. The likeliest token is taken each time, until the
    end token.

    Args:
        model: in eval mode.
        chat: its chat format, which knows the tokens that end an answer.
        before: token ids in front of the video.
        after: token ids behind it, up to where the answer begins.
        mode: how frames are read.
        most: tokens at most.
        look: keep the attention of each frame.

    Attributes:
        ids: tokens of the answer so far, without the end token.
        ended: whether the end token came.
        attention: float32 [heads, N] of each layer, for each frame, with ``look``.
        entropy: float32 [layers, heads] in nats, for each frame, with ``look``.
    """

    def __init__(
        self,
        model: FoveatedVLM,
        chat: ChatFormat,
        before: Sequence[int],
        after: Sequence[int],
        *,
        mode: Mode = "stream",
        most: int = 128,
        look: bool = False,
    ):
        self.model, self.tokenizer, self.mode, self.most, self.look = model, chat.tokenizer, mode, most, look
        self.before, self.after = list(before), list(after)
        self.ids: list[int] = []
        self.ended = False
        self.attention: list[list[torch.Tensor]] = []
        self.entropy: list[torch.Tensor] = []
        self.ends = {*chat.end_ids, *model.language.ends}

    @property
    def text(self) -> str:
        """Return the answer so far."""
        decoded: str = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        return decoded.strip()

    @torch.no_grad()
    def about(self, frames: Iterable[torch.Tensor], looks: int = 1) -> Iterator[str]:
        """Watch a video and yield the answer's words as they come.

        Args:
            frames: uint8 [H, W, 3] each.
            looks: number of looks at each frame, which is encoded once: more than one at a still image.
        """
        reading = self.model.language.start()
        hidden = self._text(reading, self.before)
        hidden = self._watch(reading, hidden, self._encoded(frames, looks))
        hidden = self._text(reading, self.after) if self.after else hidden
        if hidden is None:
            raise ValueError("nothing to answer: no text and no frame")
        said = ""
        while len(self.ids) < self.most:
            token = int(self.model.language.logits(hidden).argmax(-1))
            if token in self.ends:
                self.ended = True
                break
            self.ids.append(token)
            text = self.text
            if text.startswith(said) and not text.endswith("\N{REPLACEMENT CHARACTER}"):  # half a character: wait
                yield text[len(said) :]
                said = text
            hidden = self._read(reading, self._embedded([token]))
        if self.text != said and self.text.startswith(said):
            yield self.text[len(said) :]

    def _text(self, reading: Reading, ids: Sequence[int]) -> torch.Tensor | None:
        """Read token ids. Return the last one's hidden state [1, W], None without any."""
        return self._read(reading, self._embedded(ids)) if ids else None

    def _embedded(self, ids: Sequence[int]) -> torch.Tensor:
        device = self.model.language.embeddings.device
        return self.model.language.embed(torch.tensor([list(ids)], device=device))

    def _read(self, reading: Reading, embeds: torch.Tensor) -> torch.Tensor:
        real = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
        return reading.read(embeds, real)[:, -1]

    def _encoded(self, frames: Iterable[torch.Tensor], looks: int) -> Iterator[Keys]:
        """Yield the keys of each frame, as often as it is looked at."""
        for frame in frames:
            yield from [self.model.encode(frame[None, None])] * looks

    def _watch(self, reading: Reading, hidden: torch.Tensor | None, seen: Iterable[Keys]) -> torch.Tensor | None:
        """Read one token a frame. Return the last one's hidden state, or ``hidden`` without a frame.

        Args:
            reading: of what is in front.
            hidden: of the last token there.
            seen: keys of each frame.
        """
        if self.mode == "parallel":
            return self._watch_twice(reading, hidden, list(seen))
        connector = self.model.connector
        kind: Kind = "coarse" if self.mode == "coarse" else "fine"
        sketch = None  # where queries are predicted, if not from the answer's sequence
        for number, keys in enumerate(seen):
            if not number:
                if self.model.config.aim == "frames" and kind == "fine":
                    sketch, state = self._sketch(reading, hidden, kind)
                hidden = self._mark(reading, hidden, kind)
                query = self._first_query(hidden if sketch is None else state)
            token = self._token(connector.static_query[None] if self.mode == "coarse" else query, keys, keep=True)
            hidden = self._read(reading, token)
            query = connector.predict(hidden if sketch is None else self._read(sketch, token))
        return hidden

    def _watch_twice(self, reading: Reading, hidden: torch.Tensor | None, kept: list[Keys]) -> torch.Tensor | None:
        connector = self.model.connector
        if not kept:
            return hidden
        queries = [connector.static_query[None]] * len(kept)
        for number in range(self.model.config.iterations):
            sketch, state = self._sketch(reading, hidden, "fine" if number else "coarse")
            following = [self._first_query(state)]
            for query, keys in zip(queries, kept, strict=True):
                following.append(connector.predict(self._read(sketch, self._token(query, keys))))
            queries = following[: len(kept)]
        hidden = self._mark(reading, hidden, "fine")
        for query, keys in zip(queries, kept, strict=True):
            hidden = self._read(reading, self._token(query, keys, keep=True))
        return hidden

    def _mark(self, reading: Reading, hidden: torch.Tensor | None, kind: Kind) -> torch.Tensor | None:
        """Read the mark of a pass, where the model has marks. Return what is known then."""
        return self._read(reading, self.model.connector.mark(kind)) if self.model.config.marks else hidden

    def _sketch(self, reading: Reading, hidden: torch.Tensor | None, kind: Kind) -> tuple[Reading, torch.Tensor | None]:
        """Begin a sequence to predict queries from, which the answer's does not go on from. Return also what is known
        there before the first frame."""
        if self.model.config.aim == "frames":
            own, connector = self.model.language.start(), self.model.connector
            return own, self._read(own, torch.cat([connector.no_text[None, None], connector.mark(kind)], 1))
        own = reading.fork()
        return own, self._mark(own, hidden, kind)

    def _first_query(self, hidden: torch.Tensor | None) -> torch.Tensor:
        connector = self.model.connector
        if self.model.config.first_query == "learnt" or hidden is None:
            return connector.first_query[None]
        query: torch.Tensor = connector.predict(hidden)
        return query

    def _token(self, query: torch.Tensor, keys: Keys, keep: bool = False) -> torch.Tensor:
        """Return the visual token [1, 1, W] of a frame, read with a query [1, D]."""
        entered = self.model.connector.enter(query)[:, None]
        gaze: Gaze = self.model.encoder.look(entered, keys, attention=self.look and keep)
        if gaze.attention is not None and gaze.entropy is not None:
            self.attention.append([layer[0, 0].cpu() for layer in gaze.attention])
            self.entropy.append(gaze.entropy[:, 0, 0].cpu())
        return self.model.connector.tokens(gaze.seen).to(self.model.language.embeddings.dtype)
