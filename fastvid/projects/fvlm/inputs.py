"""The model's inputs: clips, and questions about each of them as token ids."""

from dataclasses import dataclass, fields, replace

import torch

from fastvid.data import Batch


@dataclass(frozen=True)
class Inputs:
    """C clips with S questions each. A question's row is its text in front of the video, the frames, the text behind.

    A still image is a clip of one frame that is looked at T times and encoded once. Text without a picture has T = 0.

    Attributes:
        clips: uint8 [C, T, H, W, 3]; [C, 1, H, W, 3] of still images.
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
        extra = {field.name: batch.extra[field.name] for field in fields(cls) if field.name in batch.extra}
        if batch.clips.shape[1] < extra["frames"].shape[1]:  # still images
            longest = extra["frames"].shape[1]
        extra["frames"] = extra["frames"][:, :longest]
        if extra.get("truth") is not None:
            extra["truth"] = extra["truth"][..., :longest]
        return cls(clips=batch.clips[:, :longest], **extra)

    def told(self) -> "Inputs":
        """Return the same with all text in front of the video, answers too. None of it is learnt."""
        text, mask = torch.cat([self.before, self.after], -1), torch.cat([self.before_mask, self.after_mask], -1)
        order = mask.byte().argsort(dim=-1, stable=True)  # padding to the left: what is last is read last
        none = self.after[..., :0]
        return replace(
            self, before=text.gather(-1, order), before_mask=mask.gather(-1, order), after=none, after_mask=none.bool(),
            labels=none,
        )  # fmt: skip

    def all_text(self) -> "Inputs":
        """Return the same where all text behind the video is learnt, questions too."""
        return replace(self, labels=self.after.masked_fill(~self.after_mask, -100))

    @property
    def learnt(self) -> torch.Tensor:
        """Return bool [C, S, A], where a token is learnt."""
        return self.labels != -100
