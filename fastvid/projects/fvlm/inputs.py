"""The model's inputs: clips, and questions about each of them as token ids."""

from dataclasses import dataclass

import torch

from fastvid.data import Batch


@dataclass(frozen=True)
class Inputs:
    """C clips with S questions each. A question's row is its text in front of the video, the frames, the text behind.

    Attributes:
        clips: uint8 [C, T, H, W, 3].
        frames: bool [C, T], real frames; padding stands at the end.
        questions: bool [C, S], real questions.
        before: int64 [C, S, P], token ids in front of the video, padded on the left.
        before_mask: bool [C, S, P], real ones.
        after: int64 [C, S, A], token ids behind the video, padded on the right.
        after_mask: bool [C, S, A], real ones.
        labels: int64 [C, S, A], the ids of ``after`` that are learnt, -100 elsewhere.
        truth: int64 [C, S, T], the patch that holds the answer, -1 where that is not known; or None.
    """

    clips: torch.Tensor
    frames: torch.Tensor
    questions: torch.Tensor
    before: torch.Tensor
    before_mask: torch.Tensor
    after: torch.Tensor
    after_mask: torch.Tensor
    labels: torch.Tensor
    truth: torch.Tensor | None = None

    @classmethod
    def of(cls, batch: Batch) -> "Inputs":
        """Return what a loader's batch holds. Frames that are padding in every clip are left out."""
        if batch.clips is None:
            raise ValueError("a batch without clips: fvlm reads videos")
        # Known from the texts, so that nothing waits for a GPU.
        longest = max((len(set(text.frames)) for text in batch.text), default=0) or batch.clips.shape[1]
        extra = dict(batch.extra)
        extra["frames"] = extra["frames"][:, :longest]
        if extra.get("truth") is not None:
            extra["truth"] = extra["truth"][..., :longest]
        return cls(clips=batch.clips[:, :longest], **extra)

    @property
    def learnt(self) -> torch.Tensor:
        """Return bool [C, S, A], where a token is learnt."""
        return self.labels != -100
