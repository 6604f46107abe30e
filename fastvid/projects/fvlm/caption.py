"""An answer about a video file, word by word, and where it was looked up."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from fastvid.data import ChatFormat, PaddedEvaluation, Sample
from fastvid.data.demo.files import encode_h264
from fastvid.files import write_whole
from fastvid.projects.fvlm.generate import Answer
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.pictures import Shown
from fastvid.report.gaze import gaze_video
from fastvid.video import VideoMetadata, View, ViewSpec
from fastvid.video.decode import iter_frames
from fastvid.video.resize import crop_resize

if TYPE_CHECKING:
    from fastvid.projects.fvlm.saved import TrainedFvlm

_SIDE = 384  # of a frame in the gaze video, pixels
_FASTEST, _SLOWEST = 4.0, 1.0  # frames a second of the gaze video: time to see where it looks


def caption(
    trained: "TrainedFvlm",
    data: bytes,
    info: VideoMetadata,
    *,
    question: str | None = None,
    mode: str | None = None,
    tokens: int = 64,
) -> "VideoAnswer":
    """Answer a question about a video. Iterate over the result to have the answer made, piece by piece.

    Args:
        trained: the model, on any device.
        data: the whole file.
        info: its :func:`fastvid.video.probe`.
        question: its words; None for what the model was trained to be asked.
        mode: how the video is read: coarse, parallel or stream; None for how it was in training.
        tokens: most tokens of the answer.

    Raises:
        ValueError: no such mode, or nothing is asked.
    """
    about = trained.about
    chosen: Any = about["mode"] if mode is None else mode
    if chosen not in get_args(Mode):
        raise ValueError(f"no mode {chosen!r}: choose {', '.join(get_args(Mode))}")
    asked = about["question"] if question is None else question.strip()
    if not asked:
        raise ValueError("the question is empty")
    return VideoAnswer(trained, data, info, asked, chosen, tokens)


class VideoAnswer:
    """The answer to a question about a video, made while it is iterated: pieces of text.

    Args:
        trained: the model.
        data: the video's file.
        info: its metadata.
        question: its words.
        mode: how the video is read.
        tokens: most tokens of the answer.

    Attributes:
        question: the question's words.
        mode: how the video is read.
        notes: sentences on what to doubt.
        view: which frames are read, and which part of them.
    """

    def __init__(
        self, trained: "TrainedFvlm", data: bytes, info: VideoMetadata, question: str, mode: Mode, tokens: int
    ):
        self.question, self.mode, self._trained, self._data, self._info = question, mode, trained, data, info
        draws = PaddedEvaluation(ViewSpec.from_fields(trained.about["views"]), fps=trained.about["max_fps"])
        (padded,) = draws.views(Sample("video"), info)
        self.view: View = padded
        self.frames = list(dict.fromkeys(padded.frames))
        chat = ChatFormat(trained.tokenizer, trained.model.config.layout)
        before, after = chat.prompt(question)
        unknown = trained.tokenizer.unk_token_id
        self.notes = []
        if unknown is not None and unknown in (*before, *after):
            strange = [word for word in question.split() if unknown in chat.prompt(word)[0] + chat.prompt(word)[1]]
            self.notes.append(f"the model has never read the words {', '.join(strange)} and cannot know what they mean")
        self._answer = Answer(trained.model, chat, before, after, mode=mode, most=tokens, look=True)
        self._pictures: list[np.ndarray] = []

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces of the answer as they are made; an answer is made once."""
        if self._answer.attention:
            raise RuntimeError("this answer is made already: its text is in `text`; ask again for another one")
        return self._answer.about(self._watch())

    @property
    def text(self) -> str:
        """Return the answer so far."""
        return self._answer.text

    @property
    def attention(self) -> np.ndarray:
        """Return the attention of the answer's looks on the patches of the T frames, float32 [L, T, h, rows, columns];
        what is missing to 1 went to the tokens in front of the patches."""
        shown = self._shown()
        return shown.on_patches(shown.attention[self.mode])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: the answer, and for each frame where the first layer's attention, averaged over
        heads, is greatest."""
        info, first = self._info, self.attention[0].mean(1)
        rows, columns = first.shape[1:]
        looks = []
        for frame, page in zip(self.frames, first, strict=True):
            row, column = divmod(int(page.argmax()), columns)
            looks.append(
                {
                    "frame": frame, "second": round(float(info.times[frame]), 3), "row": row, "column": column,
                    "attention": round(float(page.max()), 4),
                }
            )  # fmt: skip
        return {
            "question": self.question, "answer": self.text, "mode": self.mode, "ended": self._answer.ended,
            "grid": [rows, columns], "box": list(self.view.box), "looks": looks,
            "entropy": [[round(float(value), 4) for value in page.mean(-1)] for page in self._answer.entropy],
        }  # fmt: skip

    def write_gaze(self, path: Path) -> None:
        """Write an mp4 of the frames, lit where the first layer's attention was, and a JSON of it beside it."""
        shown = self._shown()
        pages = gaze_video(shown.frames, [shown.gaze(self.mode)], self.question, side=_SIDE)
        seconds = self._info.duration / max(1, len(self.frames))
        rate = min(_FASTEST, max(_SLOWEST, 1 / max(seconds, 1e-6)))
        write_whole(path, encode_h264(pages, round(rate)), sync=False)
        text = json.dumps(self.as_dict(), indent=1) + "\n"
        write_whole(path.with_suffix(".json"), text.encode(), sync=False)

    def _watch(self) -> Iterator[torch.Tensor]:
        """Yield what the model sees of each frame, uint8 [size, size, 3], and keep a picture of it."""
        device = next(self._trained.parameters()).device
        for _, frame in iter_frames(self._data, self.frames, info=self._info):
            self._pictures.append(crop_resize(frame, self.view.box, max(_SIDE, self.view.size)))
            yield torch.from_numpy(crop_resize(frame, self.view.box, self.view.size).copy()).to(device)

    def _shown(self) -> Shown:
        if not self._answer.attention:
            raise RuntimeError("nothing was looked at so far: iterate over the answer first")
        layers = zip(*self._answer.attention, strict=True)
        attention = np.stack([torch.stack(list(looks)).float().numpy() for looks in layers])
        grid = self._trained.model.encoder.patches(self.view.size, self.view.size)
        return Shown(
            "", self.question, "", np.stack(self._pictures), grid, [], {self.mode: attention}, {self.mode: self.text}
        )
