"""The passes of the language model over a batch: frames that are looked at, and the text around them."""

from typing import TYPE_CHECKING

import torch

from fastvid.projects.fvlm.encoder import Gaze, Keys
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.language import Reading
from fastvid.projects.fvlm.model_config import Coarse, GazeKind, Kind, Mode
from fastvid.projects.fvlm.output import Output
from fastvid.projects.fvlm.row import Row

if TYPE_CHECKING:
    from fastvid.projects.fvlm.model import FoveatedVLM


class Pass:
    """The passes over one batch, which share its keys and what the language model read in front of the video.

    Args:
        model: the model.
        inputs: clips and questions.
        keys: of the clips.
        gaze: where queries look.
        look: keep attention and entropy.
        entropy: keep the entropy.
    """

    goes_on = False  # whether what is read of an answer's row is read on later

    def __init__(
        self,
        model: "FoveatedVLM",
        inputs: Inputs,
        keys: Keys,
        gaze: GazeKind,
        *,
        look: bool = False,
        entropy: bool = False,
    ):
        self.model, self.inputs, self.keys, self.gaze = model, inputs, keys, gaze
        self.look, self.entropy = look, entropy
        self.connector = model.connector
        (self.C, self.T), self.S = inputs.frames.shape, inputs.questions.shape[1]
        self.alone = model.config.aim == "frames"  # queries are predicted in a sequence of their own, one for a clip
        questions = inputs.questions.flatten()[:, None]  # what is no question is read as if it were one: never empty
        self.real = inputs.frames.repeat_interleave(self.S, 0)
        self.after_real = inputs.after_mask.flatten(0, 1)
        # Without text in front nothing is known there, however wide the padding is that other rows bring.
        self.has_text = inputs.before_mask.any(-1).flatten()[:, None]
        self.text, self.text_hidden = model.language.start(), None
        self.unread = model.language.embed(inputs.before.flatten(0, 1)), inputs.before_mask.flatten(0, 1) | ~questions
        if inputs.before.shape[-1] and model.config.layout == "question-first" and not model.language.compiled_now:
            # Read once for all passes. What stands in front of a video whose question is behind it is short: a call of
            # its own would take longer than to read it again; and so it would where the layers are compiled.
            self.text_hidden = self.text.read(*self.unread)[:, -1] * self.has_text
            self.unread = self.unread[0][:, :0], self.unread[1][:, :0]

    def run(self, mode: Mode, coarse: Coarse = False, ahead: bool = False) -> Output:
        """Make the passes of a mode.

        Args:
            mode: how frames are read.
            coarse: also make the coarse pass; ``"measured"`` makes it without gradients.
            ahead: whether ``Output.ahead`` is needed of the passes that are trained.
        """
        output = self.made(mode, coarse, ahead) if self.T else self.text_alone()
        if torch.is_grad_enabled() and self.T < 2:
            output.logits = output.logits + self.model.untouched(self.T)
        return output

    def text_alone(self) -> Output:
        """Read text without a picture."""
        return self.output(self.read(self.text.fork(), self.no_tokens, "fine"), self.static, [])

    def made(self, mode: Mode, coarse: Coarse, ahead: bool) -> Output:
        """Make the passes of a mode over at least one frame."""
        if mode == "coarse":
            return self.coarse(ahead)
        first = None
        if coarse == "measured":
            with torch.no_grad():
                first = self.coarse()
        elif coarse:
            first = self.coarse(ahead or mode == "parallel")
        if mode == "stream":
            output = self.stream()
        else:
            known = None if first is None or coarse == "measured" else first.ahead
            known = self.ahead("coarse", self.static) if known is None else known
            if first is not None:
                first.ahead = known
            for _ in range(self.model.config.iterations - 1):
                known = self.ahead("fine", self.following(known))
            output = self.answer("fine", self.following(known), ahead)
        output.coarse = first
        return output

    @property
    def static(self) -> torch.Tensor:
        """Return the static query of every frame, [C, 1, T, D]: one for all questions."""
        return self.connector.static_query.expand(self.C, 1, self.T, -1)

    def coarse(self, ahead: bool = False) -> Output:
        """Read every frame with the static query."""
        return self.answer("coarse", self.static, ahead)

    def fine(self, queries: torch.Tensor) -> Output:
        """Read all frames at once with queries [C, s, T, D]; s is S, or 1 for the same ones in all questions."""
        return self.answer("fine", queries)

    def answer(self, kind: Kind, queries: torch.Tensor, ahead: bool = False) -> Output:
        """Read all frames at once, and the text behind them.

        Args:
            kind: of the pass.
            queries: of the frames.
            ahead: also read the sequence that queries are predicted from, where it is another one. A call of the
                language model reads both where they have the same rows and nothing is read yet.
        """
        tokens, gaze = self.tokens(queries)
        if not (ahead and self.alone):
            return self.output(self.read(self.text.fork(), self.for_all(tokens), kind), queries, [gaze])
        if self.S == 1 and self.text.real is None:
            row, other = self.row(kind, tokens), self.row_ahead(kind, tokens)
            hidden, known = self.model.language.together(row.part, other.part)
            hidden, known = self.behind(row, hidden), self.behind(other, known)
        else:
            hidden = self.read(self.text.fork(), self.for_all(tokens), kind)
            known = self.read_ahead(kind, tokens)
        output = self.output(hidden, queries, [gaze])
        output.ahead = known.unflatten(0, (self.C, -1))
        return output

    def ahead(self, kind: Kind, queries: torch.Tensor) -> torch.Tensor:
        """Read all frames at once, without the text behind. Return what is known before each of them, [C, s, T, W]:
        from it queries are predicted."""
        known: torch.Tensor = self.read_ahead(kind, self.tokens(queries)[0]).unflatten(0, (self.C, -1))
        return known

    def read_ahead(self, kind: Kind, tokens: torch.Tensor) -> torch.Tensor:
        """Read the sequence that queries are predicted from. Return what is known before each frame, [r, T, W]."""
        row = self.row_ahead(kind, tokens)
        return self.behind(row, self.start().read_last(*row.part))

    def stream(self) -> Output:
        """Read frame after frame, each with the query that was predicted at the one before."""
        reading, front = self.start(), self.front_ahead("fine")
        keys, real = self.keys.split(), self.real_of(len(front.embeds))
        states: list[torch.Tensor] = []
        seen, queries, gazes = [], [], []
        # A learnt first query needs nothing that was read: what is in front is read together with the first frame.
        learnt = self.connector.first_query.expand(len(real), -1)
        if self.model.config.first_query != "learnt" or self.T == 1:
            states.append(self.behind(front, reading.read(*front.part)))
        for t in range(self.T):
            queries.append(self.query(states[-1][:, -1], first=t == 0) if states else learnt)
            tokens, gaze = self.tokens(queries[-1].unflatten(0, (self.C, -1)).unsqueeze(2), keys[t % len(keys)], t)
            seen.append(tokens)
            gazes.append(gaze)
            if not states:
                row = front.then(tokens, real[:, :1])
                states.append(self.behind(row, reading.read(*row.part)))
            elif t < self.T - 1:
                states.append(reading.read(tokens, real[:, t : t + 1]))
        if self.alone:
            hidden = self.read(self.text.fork(), self.for_all(torch.cat(seen, 1)), "fine")
        else:
            hidden = torch.cat([*states, self.read(reading, seen[-1], frame=self.T - 1)[:, 1:]], 1)
        output = self.output(hidden, torch.stack(queries, 1).unflatten(0, (self.C, -1)), gazes)
        output.ahead = torch.cat(states, 1).unflatten(0, (self.C, -1))
        return output

    def start(self) -> Reading:
        """Begin the sequence that queries are predicted from."""
        return self.model.language.start() if self.alone else self.text.fork()

    def front_ahead(self, kind: Kind) -> Row:
        """Return what is still to be read in front of the frames in the sequence that queries are predicted from."""
        if not self.alone:
            return Row(*self.lead(kind))
        no_text = self.connector.no_text.to(self.no_tokens.dtype).expand(self.C, 1, -1)
        lead = torch.cat([no_text, self.mark(kind, self.C)], 1)
        return Row(lead, lead.new_ones(lead.shape[:2], dtype=torch.bool))

    def row_ahead(self, kind: Kind, tokens: torch.Tensor) -> Row:
        """Return what is to be read in that sequence: what is in front of the frames, and their tokens [C * s, T, W]
        but the last one's, behind which no query is predicted."""
        tokens = tokens if self.alone else self.for_all(tokens)
        return self.front_ahead(kind).then(tokens[:, :-1], self.real_of(len(tokens))[:, :-1])

    def row(self, kind: Kind | None, tokens: torch.Tensor, frame: int = 0) -> Row:
        """Return what is to be read in an answer's row: what is in front of the frames, tokens [R, t, W] of the frames
        from one on, and the text behind but its last token, whose successor nobody asks for.

        Args:
            kind: of the pass; None where what is in front of these frames is read already.
            tokens: of the frames.
            frame: number of the first frame.
        """
        after = self.model.language.embed(self.inputs.after.flatten(0, 1)[:, :-1])
        lead = (self.no_tokens, self.real[:, :0]) if kind is None else self.lead(kind)
        return Row(*lead).then(tokens, self.real[:, frame:]).then(after, self.after_real[:, :-1])

    def behind(self, row: Row, hidden: torch.Tensor) -> torch.Tensor:
        """Return the hidden states [r, 1 + n, W] of a row: of what is in front of its n columns behind the lead, and of
        these.

        Args:
            row: what was read.
            hidden: [r, m + n, W], all of its hidden states.
        """
        return hidden[:, row.lead - 1 :] if row.lead else torch.cat([self.in_front[:, None], hidden], 1)

    def lead(self, kind: Kind) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is still to be read in front of the frames: tokens [R, m, W], and bool [R, m]."""
        mark = self.mark(kind, len(self.real))
        embeds, real = self.unread
        return torch.cat([embeds, mark], 1), torch.cat([real, mark.new_ones(mark.shape[:2], dtype=torch.bool)], 1)

    def mark(self, kind: Kind, rows: int) -> torch.Tensor:
        """Return the mark of a pass [rows, 1, W], or [rows, 0, W] where there is none or no frame."""
        if not self.model.config.marks or not self.T:
            return self.no_tokens[:rows]
        return self.connector.mark(kind).to(self.no_tokens.dtype).expand(rows, -1, -1)

    @property
    def no_tokens(self) -> torch.Tensor:
        """Return no tokens, [R, 0, W]."""
        return self.model.language.embeddings.new_zeros(self.C * self.S, 0, self.model.language.width)

    @property
    def in_front(self) -> torch.Tensor:
        """Return what is known behind the text in front of the video, [R, W]: 0 without any."""
        if self.text_hidden is not None:
            return self.text_hidden
        return self.model.language.embeddings.new_zeros(self.C * self.S, self.model.language.width)

    def for_all(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return tokens [C * s, T, W] for all questions, [C * S, T, W]."""
        if len(tokens) == self.C * self.S:
            return tokens
        spread: torch.Tensor = tokens.unflatten(0, (self.C, 1)).expand(-1, self.S, -1, -1).flatten(0, 1)
        return spread

    def real_of(self, rows: int) -> torch.Tensor:
        """Return which frames are real, bool [rows, T]."""
        return self.real if rows == len(self.real) else self.inputs.frames

    def query(self, state: torch.Tensor, *, first: bool = False) -> torch.Tensor:
        """Return the queries [r, D] of a frame before which ``state`` [r, W] is known."""
        learnt = self.connector.first_query.expand(len(state), -1)
        if first and self.model.config.first_query == "learnt":
            return learnt
        query: torch.Tensor = self.connector.predict(state)
        if not first or self.model.config.marks:
            return query
        return torch.where(self.has_text, query, learnt)

    def following(self, ahead: torch.Tensor) -> torch.Tensor:
        """Return the queries [C, s, T, D] that are predicted from what is known before each frame, [C, s, T, W]."""
        states = ahead.flatten(0, 1)
        rows = torch.cat([self.query(states[:, 0], first=True)[:, None], self.connector.predict(states[:, 1:])], 1)
        queries: torch.Tensor = rows.unflatten(0, (self.C, -1))
        return queries

    def tokens(self, queries: torch.Tensor, keys: Keys | None = None, frame: int = 0) -> tuple[torch.Tensor, Gaze]:
        """Look at t frames with queries [C, s, t, D]. Return visual tokens [C * s, t, W].

        A still image is one frame: its t looks are more queries of that frame.

        Args:
            queries: of these frames.
            keys: of these frames; None for all.
            frame: number of the first of them.
        """
        keys = self.keys if keys is None else keys
        s, t = queries.shape[1:3]
        rows = (keys.clips * keys.frames, -1)
        truth = None
        if self.gaze == "oracle":
            if self.inputs.truth is None:
                raise ValueError("an oracle's gaze needs to know where the answer is: the batch has no truth")
            truth = self.inputs.truth[:, :s, frame : frame + t].transpose(1, 2).reshape(rows)
        gaze = self.model.encoder.look(
            self.connector.enter(queries.transpose(1, 2)).reshape(*rows, self.model.encoder.width), keys,
            uniform=self.gaze == "uniform", truth=truth, attention=self.look, entropy=self.entropy,
        )  # fmt: skip
        seen = gaze.seen.reshape(self.C, t, s, -1).transpose(1, 2).flatten(0, 1)
        return self.connector.tokens(seen).to(self.model.language.embeddings.dtype), gaze

    def read(self, reading: Reading, tokens: torch.Tensor, kind: Kind | None = None, frame: int = 0) -> torch.Tensor:
        """Read an answer's row, and return its hidden states [R, 1 + t + A - 1, W]; see :meth:`row`.

        Args:
            reading: of what is in front.
            tokens: [R, t, W], of the frames.
            kind: of the pass; None where what is in front of these frames is read already.
            frame: number of the first frame.
        """
        row = self.row(kind, tokens, frame)
        read = reading.read if self.goes_on else reading.read_last
        return self.behind(row, read(*row.part))

    def output(self, hidden: torch.Tensor, queries: torch.Tensor, gazes: list[Gaze]) -> Output:
        """Return what hidden states [R, 1 + T + A - 1, W] before and of the frames, and of the text behind, say."""
        count = self.real.sum(1)  # the last real frame predicts the first token behind
        at_last = hidden[torch.arange(len(hidden), device=hidden.device), count]
        learnt = self.inputs.learnt
        states = torch.cat([at_last[:, None], hidden[:, 1 + self.T :]], 1)[:, : learnt.shape[-1]]
        output = Output(
            learnt=learnt, labels=self.inputs.labels[learnt],
            logits=self.model.language.logits(states.unflatten(0, (self.C, self.S))[learnt]),
            queries=queries.expand(-1, self.S, -1, -1),
            ahead=None if self.alone else hidden[:, : self.T].unflatten(0, (self.C, self.S)),
        )  # fmt: skip
        if self.look and gazes:
            attention = zip(*(gaze.attention or [] for gaze in gazes), strict=True)
            output.attention = [self.joined(looks) for looks in attention]
        if (self.look or self.entropy) and gazes:
            entropy = zip(*(() if gaze.entropy is None else gaze.entropy for gaze in gazes), strict=True)
            output.entropy = torch.stack([self.joined(looks) for looks in entropy])
        return output

    def joined(self, looks: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Join measures of looks at successive frames, [C * t, s, ...] or of a still [C, t * s, ...], to
        [C, S, T, ...]."""
        whole = torch.cat([x.reshape(self.C, -1, *x.shape[2:]) for x in looks], 1)
        spread: torch.Tensor = whole.unflatten(1, (self.T, -1)).transpose(1, 2)
        return spread.expand(-1, self.S, *spread.shape[2:])
