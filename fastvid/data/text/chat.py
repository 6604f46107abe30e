"""The layout of a conversation around the visual tokens by a chat template, and the tokens that are learnt."""

import functools
import itertools
import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fastvid.data.text.conversation import Conversation, TokenRow, Turn

Layout = Literal["question-first", "video-first"]
IGNORED = -100
"""Label of tokens that are not learnt, as PyTorch's cross-entropy has it."""

_VIDEO, _ASKED, _ANSWER, _END = "\ue000", "\ue001", "\ue002", "\ue003"  # private characters: no text holds them
_SYSTEM = "\ue004"
_REMEMBERED = 8192  # texts whose token ids are kept


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is needed."""

    eos_token_id: int | None
    pad_token_id: int | None
    all_special_ids: list[int]
    chat_template: Any

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool, **options: Any) -> str: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Row:
    """One conversation as token ids around the visual tokens.

    Attributes:
        before: ids in front of the visual tokens.
        after: ids behind them.
        labels: for each of ``after`` its id where it is learnt, :data:`IGNORED` elsewhere.
    """

    before: list[int]
    after: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Asked:
    """A question: the ids in front of the visual tokens and behind them, up to where the answer begins; its words; and
    those of its answer.
    """

    before: list[int]
    after: list[int]
    question: str
    answer: str


class ChatFormat:
    """Conversations as token ids.

    The template is rendered with marks for the texts and for the video, and cut at the marks. Each piece is tokenized
    by itself, in training as in generation, so that the two cannot differ at the seams.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        layout: whether the visual tokens come behind the first question or in front of it.
        system: instruction for conversations that have none of their own; default: what the template does by itself.

    Raises:
        ValueError: the tokenizer has no chat template, no end token or no padding token, or its template drops a text
            or lets an answer end without a special token, so that generation would not stop.

    Example:
        >>> chat = ChatFormat(AutoTokenizer.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct"))
        >>> row = chat.row(Conversation((Turn("What is this?", "A cat."),)))
    """

    def __init__(self, tokenizer: Tokenizer, layout: Layout = "question-first", system: str | None = None):
        self.tokenizer, self.layout, self.system = tokenizer, layout, system
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                f"the tokenizer {name} has no chat template, which says where questions and answers stand: take the "
                "instruction-tuned language model of the same family"
            )
        if tokenizer.eos_token_id is None:
            raise ValueError(f"the tokenizer {name} has no end token: generation would not stop")
        self.pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._special = frozenset([*tokenizer.all_special_ids, tokenizer.eos_token_id])
        self._encode = functools.lru_cache(_REMEMBERED)(
            lambda text: tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()
        )
        self._skeleton = functools.lru_cache(256)(lambda turns, with_system: _parts(self._render(turns, with_system)))
        self._name = name
        probe = Conversation((Turn("question", "answer"), Turn("another question", "another answer")), system)
        if not any(label != IGNORED for label in self.row(probe).labels):
            raise ValueError(f"the tokenizer {name} makes no token of an answer")

    @property
    def end_ids(self) -> frozenset[int]:
        """Return the ids that end an answer: what generation stops at."""
        _, after = self._split(Conversation((Turn("q", "a"),), self.system))
        return frozenset([self._closing(text)[-1] for text, kind in after if kind == "end"])

    def row(self, conversation: Conversation) -> Row:
        """Return a conversation as token ids. Every answer is learnt, with the token that ends it. What was tokenized
        before stays as it is.
        """
        if conversation.tokens is not None:
            return self._stored(conversation.tokens)
        before, pieces = self._split(conversation)
        after: list[int] = []
        labels: list[int] = []
        for text, kind in pieces:
            ids = self._encode(text)
            learnt = len(ids) if kind == "answer" else len(self._closing(text)) if kind == "end" else 0
            after += ids
            labels += [*ids[:learnt], *[IGNORED] * (len(ids) - learnt)]
        return Row([*self._encode(before)], after, labels)

    def prompt(self, question: str, system: str | None = None) -> tuple[list[int], list[int]]:
        """Return the ids in front of the visual tokens and behind them, up to where the answer begins."""
        before, pieces = self._split(Conversation((Turn(question.strip(), "answer"),), system))
        return [*self._encode(before)], [*self._encode(pieces[0][0])]

    def asked(self, conversation: Conversation) -> Asked:
        """Return the first question of a conversation, as generation is given it, and its answer in words."""
        if conversation.tokens is None:
            turn = conversation.turns[0]
            before, after = self.prompt(turn.question, conversation.system)
            return Asked(before, after, turn.question, turn.answer)
        row = self._stored(conversation.tokens)
        first = next(place for place, label in enumerate(row.labels) if label != IGNORED)
        answer = list(itertools.takewhile(lambda label: label != IGNORED, row.labels[first:]))
        asked = [*row.before, *row.after[:first]]
        words = (self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in (asked, answer))
        return Asked(row.before, row.after[:first], *words)

    def answer(self, text: str, *, end: bool = True) -> list[int]:
        """Return the ids of an answer, as they stand behind :meth:`prompt` and are learnt.

        Args:
            text: its words.
            end: with those that end it.
        """
        _, pieces = self._split(Conversation((Turn("question", text.strip()),), self.system))
        closing = [self._closing(piece) for piece, kind in pieces if kind == "end"]
        return [*self._encode(text.strip()), *(closing[0] if end else ())]

    def knows(self, row: TokenRow) -> bool:
        """Return whether the ids are those that this tokenizer gives to their text."""
        if max(row.ids) >= len(self.tokenizer):
            return False
        text = self.tokenizer.decode([*row.ids], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return self.tokenizer.encode(text, add_special_tokens=False) == [*row.ids]

    def _stored(self, row: TokenRow) -> Row:
        """Return a stored row, with the visual tokens in front of it, or behind the question: in front of the tokens by
        which the template leads from a question to its answer, where what is learnt begins behind these.
        """
        ids, first = [*row.ids], row.learnt.index(True)
        labels = [one if learnt else IGNORED for one, learnt in zip(ids, row.learnt, strict=True)]
        lead = self.prompt("question")[1] if self.layout == "question-first" else []
        cut = first - len(lead) if lead and ids[max(0, first - len(lead)) : first] == lead else 0
        return Row(ids[:cut], ids[cut:], labels[cut:])

    def _closing(self, text: str) -> tuple[int, ...]:
        """Return the tokens from an answer's end up to the first special one, which ends it."""
        ids = self._encode(text)
        for number, token in enumerate(ids):
            if token in self._special:
                return ids[: number + 1]
        raise ValueError(
            f"the chat template of {self._name} ends an answer with {text!r:.40}, which holds no special token: "
            "generation would not stop"
        )

    def _split(self, conversation: Conversation) -> tuple[str, list[tuple[str, str]]]:
        """Return the text in front of the visual tokens, and the pieces behind them with their kinds: an ``answer``,
        the ``end`` of one, or ``other``.
        """
        system = conversation.system if conversation.system is not None else self.system
        texts = {_SYSTEM: iter([system or ""]), _ASKED: iter([turn.question for turn in conversation.turns])}
        answers = iter([turn.answer for turn in conversation.turns])
        before, pieces, now, kind = None, [], "", "other"
        for part in self._skeleton(len(conversation.turns), system is not None):
            if part in texts:
                now += next(texts[part])
            elif part == _VIDEO:
                before, now = now, ""
            elif part in (_ANSWER, _END):
                pieces.append((now, kind))
                now, kind = (next(answers), "answer") if part == _ANSWER else ("", "end")
            else:
                now += part
        pieces.append((now, kind))
        assert before is not None
        return before, pieces

    def _render(self, turns: int, with_system: bool) -> str:
        """Render the template with marks in place of all texts."""
        asked = _ASKED + _VIDEO if self.layout == "question-first" else _VIDEO + _ASKED
        messages = [{"role": "system", "content": _SYSTEM}] if with_system else []
        for number in range(turns):
            messages.append({"role": "user", "content": asked if number == 0 else _ASKED})
            messages.append({"role": "assistant", "content": _ANSWER + _END})
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        counts = {_VIDEO: 1, _ASKED: turns, _ANSWER: turns, _END: turns, _SYSTEM: int(with_system)}
        for mark, count in counts.items():
            if text.count(mark) != count:
                raise ValueError(
                    f"the chat template of {self._name} does not show every text of a conversation of {turns} turns "
                    f"{'with an instruction ' if with_system else ''}exactly once"
                )
        return str(text)


def _parts(text: str) -> list[str]:
    """Cut a text into its marks and what lies between them."""
    return [part for part in re.split(f"([{_VIDEO}{_ASKED}{_ANSWER}{_END}{_SYSTEM}])", text) if part]
