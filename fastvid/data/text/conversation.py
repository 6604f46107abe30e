"""Conversations about a video: questions and answers, as data sets write them down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastvid.random import SampleRandom

CAPTION_PROMPT = "Describe the video."
_STREAM = 14  # Philox stream of the choice of conversations; augmentation of the same samples has 11 and 12
_MARKERS = ("<video>", "<image>")  # stand for the visual tokens in LLaVA's lists; the layout puts these elsewhere
_PAIRS = (("question", "answer"), ("user", "assistant"))
_SAID = ("token_ids", "conversations", "question", "answer", "user", "assistant")
_ABOUT = ("video", "image", "frames", "file")  # in the name of a field that says what a text is about
_ASKS, _ANSWERS = ("human", "user"), ("gpt", "assistant")
_WANTED = (
    "a list of turns with from (human, gpt) and value, or with role (user, assistant) and content; or a list of such "
    "lists"
)


class NotAnswered(ValueError):
    """Error that is raised for a conversation in which questions and answers do not belong together."""


@dataclass(frozen=True)
class Turn:
    """A question and its answer, without space around them."""

    question: str
    answer: str


@dataclass(frozen=True)
class TokenRow:
    """A text that was tokenized before.

    Attributes:
        ids: token ids, at least one.
        learnt: for each of them whether it is learnt.
    """

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]


@dataclass(frozen=True)
class Conversation:
    """Turns about one video.

    Attributes:
        turns: at least one; none where there are ``tokens``.
        system: the instruction before them, or None.
        gaze: for each frame of the video the number of the cell to look at, -1 where that is not known; empty for none
            known at all. Cells are numbered row by row.
    """

    turns: tuple[Turn, ...]
    system: str | None = None
    gaze: tuple[int, ...] = ()
    tokens: TokenRow | None = None


def conversations_of(
    fields: Mapping[str, Any], caption: str | None = None, prompt: str = CAPTION_PROMPT, tokens: bool = True
) -> list[Conversation]:
    """Return the conversations that are written about a video.

    Args:
        fields: of its ``.json``: ``conversations``, as LLaVA has one conversation, or a list of several; or
            ``question`` and ``answer``; or ``user`` and ``assistant``. ``gaze`` may hold a list of cells for each.
            ``token_ids``, with a ``loss_mask`` of the same length or without, are one conversation, and go before all
            of these.
        caption: its description in words, which is the answer to ``prompt`` where there is no conversation.
        prompt: what a caption answers, and a conversation that begins with an answer.
        tokens: whether ``token_ids`` are read.

    Raises:
        NotAnswered: a question without an answer, or an answer without a question.
        ValueError: there is neither conversation nor caption, or something else in their place.
    """
    caption = fields["caption"] if caption is None and isinstance(fields.get("caption"), str) else caption
    if tokens and "token_ids" in fields:
        found = [Conversation((), tokens=_token_row(fields))]
    elif "conversations" in fields:
        written = fields["conversations"]
        several = isinstance(written, list) and bool(written) and isinstance(written[0], list)
        found = [_conversation(one, prompt) for one in (written if several else [written])]
    elif (pair := _pair(fields)) is not None:
        found = [Conversation((pair,))]
    elif caption is not None and caption.strip():
        found = [Conversation((Turn(prompt, caption.strip()),))]
    else:
        raise ValueError(
            "nothing is written about it: neither conversations nor question and answer nor caption (if they stand in "
            "the .json of older shards, run `python -m fastvid.data index` on the folder)"
        )
    return [replace(c, gaze=gaze) for c, gaze in zip(found, _gazes(fields, len(found)), strict=True)]


def is_text_alone(fields: Mapping[str, Any]) -> bool:
    """Return whether these fields, to which no video belongs, are text that needs none: a conversation or tokens, in
    which nothing says that frames are missing. A caption alone is of something that is missing.
    """
    names = [name for name in _SAID if name in fields]
    about = [name for name in fields if any(word in name.lower() for word in _ABOUT) and fields[name]]
    if not names or fields.get("frame_count") not in (None, 0) or about:
        return False
    said = repr([fields[name] for name in names if name != "token_ids"])
    return not any(marker in said for marker in _MARKERS)


def chosen(count: int, wanted: int, key: str, seed: int, epoch: int) -> list[int]:
    """Choose conversations of a sample for an epoch: a pure function of the arguments.

    Args:
        count: conversations that there are.
        wanted: as many are chosen, all where there are fewer.
        key: the sample's key.
        seed: the run's seed.
        epoch: passes over the sample before this one.

    Returns:
        Different numbers in [0, count), in random order; all of them in order where no choice is left.
    """
    numbers = list(range(count))
    if count <= wanted:
        return numbers
    random = SampleRandom(key, seed, epoch, stream=_STREAM)
    for place in range(wanted):
        other = place + random.below(count - place)
        numbers[place], numbers[other] = numbers[other], numbers[place]
    return numbers[:wanted]


@dataclass(frozen=True)
class TextChoice:
    """The choice of what is read beside each video: its conversations, and perhaps its latents.

    Attributes:
        seed: the run's seed.
        questions: most conversations of a sample at a time; another choice each epoch.
        prompt: what a caption answers.
        tokens: whether ``token_ids`` are read where they are stored; else what is written beside them.
        vocabulary: number of token ids that there are; None where that is not known.
        latents: whether the stored latents of each clip's frames are read too.
    """

    seed: int = 0
    questions: int = 1
    prompt: str = CAPTION_PROMPT
    tokens: bool = True
    vocabulary: int | None = None
    latents: bool = False

    def take(self, fields: Mapping[str, Any], caption: str | None, key: str, epoch: int) -> list[Conversation]:
        """Return the conversations of a sample for an epoch.

        Raises:
            DecodeError: ``text``.
        """
        try:
            found = conversations_of(fields, caption, self.prompt, self.tokens)
            for row in (one.tokens for one in found if one.tokens is not None):
                if self.vocabulary is not None and max(row.ids) >= self.vocabulary:
                    raise ValueError(f"its token id {max(row.ids)} is not one of {self.vocabulary} of the tokenizer")
        except ValueError as error:
            from fastvid.video import DecodeError  # and PyAV with it, which options with a prompt do without

            raise DecodeError("text", str(error)) from error
        return [found[number] for number in chosen(len(found), self.questions, key, self.seed, epoch)]


def _token_row(fields: Mapping[str, Any]) -> TokenRow:
    ids = fields["token_ids"]
    learnt = fields.get("loss_mask", [1] * len(ids) if isinstance(ids, list) else None)
    if not isinstance(ids, list) or not ids or not all(type(one) is int and 0 <= one < 2**31 for one in ids):
        raise ValueError(f"its token_ids are not a list of token ids: {ids!r:.60}")
    if not isinstance(learnt, list) or len(learnt) != len(ids) or not all(one in (0, 1) for one in learnt):
        raise ValueError(f"its loss_mask is not a list of {len(ids)} zeros and ones, as there are token_ids")
    if not any(learnt):
        raise ValueError("its loss_mask is 0 everywhere: there is nothing to learn")
    return TokenRow(tuple(ids), tuple(map(bool, learnt)))


def _pair(fields: Mapping[str, Any]) -> Turn | None:
    for asks, answers in _PAIRS:
        if isinstance(fields.get(asks), str) and isinstance(fields.get(answers), str):
            return Turn(_question(fields[asks]), _answer(fields[answers]))
    return None


def _conversation(written: Any, prompt: str) -> Conversation:
    """Parse a list of turns that alternate, the first of them asked by the user."""
    if not isinstance(written, list) or not written:
        raise ValueError(f"its conversations are not {_WANTED}: {written!r:.60}")
    said = [_said(turn) for turn in written]
    system = said.pop(0)[1].strip() if said[0][0] == "system" else None
    if said and _side(said[0][0]) == "answers":
        said.insert(0, ("human", prompt))
    turns = []
    for number in range(0, len(said), 2):
        pair = said[number : number + 2]
        if [_side(who) for who, _ in pair] != ["asks", "answers"]:
            raise NotAnswered(
                f"turn {number + 1} of a conversation: a question and its answer are expected, and there is "
                f"{' and '.join(who for who, _ in pair)}"
            )
        turns.append(Turn(_question(pair[0][1]), _answer(pair[1][1])))
    if not turns:
        raise NotAnswered("a conversation has no question and answer")
    return Conversation(tuple(turns), system)


def _said(turn: Any) -> tuple[str, str]:
    if isinstance(turn, dict):
        for who, what in (("from", "value"), ("role", "content")):
            if isinstance(turn.get(who), str) and isinstance(turn.get(what), str):
                return turn[who], turn[what]
    raise ValueError(f"its conversations are not {_WANTED}: {turn!r:.60}")


def _side(who: str) -> str:
    return "asks" if who in _ASKS else "answers" if who in _ANSWERS else who


def _question(text: str) -> str:
    for marker in _MARKERS:
        text = text.replace(marker, "")
    if not text.strip():
        raise NotAnswered("a question is empty")
    return text.strip()


def _answer(text: str) -> str:
    if not text.strip():
        raise NotAnswered("an answer is empty")
    return text.strip()


def _gazes(fields: Mapping[str, Any], count: int) -> Sequence[tuple[int, ...]]:
    gaze = fields.get("gaze")
    if gaze is None:
        return [()] * count
    if (
        not isinstance(gaze, list)
        or len(gaze) != count
        or not all(isinstance(row, list) and all(type(cell) is int for cell in row) for row in gaze)
    ):
        raise ValueError(f"its gaze is not a list of cells for each of {count} conversations")
    return [tuple(row) for row in gaze]
