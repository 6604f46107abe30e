"""Batches of conversations: token ids of several conversations of each clip, padded to static shapes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fastvid.data.source import Kind
from fastvid.data.text.chat import IGNORED, ChatFormat, Row
from fastvid.data.text.conversation import Conversation, TextChoice

_SHORTEST = 8  # tokens of the smallest bucket


@dataclass(frozen=True)
class ClipText:
    """The conversations about one clip.

    Attributes:
        conversations: those that were chosen; none for a clip that is padding.
        frames: numbers of the video's frames in the clip; those that repeat at its end are padding.
        whole: whether the clip shows whole frames, not mirrored, so that ``gaze`` holds for it.
        kind: kind of the sample.
    """

    conversations: Sequence[Conversation]
    frames: Sequence[int]
    whole: bool = True
    kind: Kind = "video"


class TextCollator:
    """Makes tensors of what is written about the clips of a batch.

    Lengths are rounded up to a few static ones: 8, 12, 16, 24, 32, 48, ... tokens.

    Args:
        chat: how conversations become token ids.
        choice: which conversations of a sample are taken. S is the most of them; the rest is padding.
        longest: most tokens in front of the visual tokens, and behind them. What is longer is cut at its end, in front
            of the visual tokens at its beginning.
        looks: how often a still image is looked at, in a batch that has nothing else.

    Attributes:
        choice: what is taken, with the size of the vocabulary.
        cut: conversations that were too long, so far.
    """

    def __init__(self, chat: ChatFormat, choice: TextChoice | None = None, longest: int = 512, looks: int = 1):
        self.chat, self.longest, self.looks, self.cut = chat, longest, looks, 0
        self.choice = replace(choice or TextChoice(), vocabulary=len(chat.tokenizer))

    def __call__(self, clips: Sequence[ClipText], length: int) -> dict[str, torch.Tensor]:
        """Return the tensors of C clips of ``length`` = T frames. In a batch of still images, of one frame each, T is
        the number of looks.

        Returns:
            ``frames`` bool [C, T], which are real; ``questions`` bool [C, S], likewise; ``before`` int64 [C, S, P],
            padded on the left, and ``before_mask`` bool; ``after`` int64 [C, S, A], padded on the right, and
            ``after_mask``; ``labels`` int64 [C, S, A], :data:`fastvid.data.text.chat.IGNORED` where nothing is learnt;
            ``truth`` int64 [C, S, T], the cell to look at, -1 where that is not known.
        """
        C, S = len(clips), self.choice.questions
        still = length == 1 and any(clip.kind == "image" for clip in clips)
        length = self.looks if still else length
        rows = [[self._row(one, clip.kind == "text") for one in clip.conversations[:S]] for clip in clips]
        P = self._length([len(row.before) for clip in rows for row in clip])
        A = self._length([len(row.after) for clip in rows for row in clip])
        before, after = np.full((C, S, P), self.chat.pad, np.int64), np.full((C, S, A), self.chat.pad, np.int64)
        before_mask, after_mask = np.zeros((C, S, P), bool), np.zeros((C, S, A), bool)
        labels, truth = np.full((C, S, A), IGNORED, np.int64), np.full((C, S, length), -1, np.int64)
        frames, questions = np.zeros((C, length), bool), np.zeros((C, S), bool)
        for c, clip in enumerate(clips):
            numbers = list(dict.fromkeys(clip.frames)) * (self.looks if still else 1)
            shown = len(numbers)
            frames[c, :shown] = True
            for s, row in enumerate(rows[c]):
                questions[c, s] = True
                before[c, s, P - len(row.before) :] = row.before
                before_mask[c, s, P - len(row.before) :] = True
                after[c, s, : len(row.after)], labels[c, s, : len(row.labels)] = row.after, row.labels
                after_mask[c, s, : len(row.after)] = True
                gaze = clip.conversations[s].gaze
                if clip.whole and gaze:
                    truth[c, s, :shown] = [gaze[f] if f < len(gaze) else -1 for f in numbers]
        arrays = {
            "frames": frames, "questions": questions, "before": before, "before_mask": before_mask, "after": after,
            "after_mask": after_mask, "labels": labels, "truth": truth,
        }  # fmt: skip
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _row(self, conversation: Conversation, alone: bool) -> Row:
        row, most = self.chat.row(conversation), self.longest
        if alone and not row.before:  # without frames nothing predicts a row's first token: it is not learnt
            row = Row(row.after[:1], row.after[1:], row.labels[1:])
        if max(len(row.before), len(row.after)) <= most:
            return row
        self.cut += 1
        return Row(row.before[-most:], row.after[:most], row.labels[:most])

    def _length(self, lengths: Sequence[int]) -> int:
        """Return the smallest static length that all fit into."""
        longest, size = max(lengths, default=1), _SHORTEST
        while size < longest:
            size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
        return min(size, self.longest)
