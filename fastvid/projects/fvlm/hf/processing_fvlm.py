"""Text, videos and pictures as the model's inputs."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers import BatchFeature, ProcessorMixin

from .video_fvlm import Picture, Video

PICTURE = "<picture>"
"""What stands in a text for a picture, as the frame token does for a video."""
_KINDS = ("video", "picture")
# Options of other processors, with the values that say what happens here anyway.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "padding": (True, "longest"),
    "add_special_tokens": (False,),
    "audio": (None,),
    "return_mm_token_type_ids": (None, False),
}


class FoveatedVLMProcessor(ProcessorMixin):
    """A tokenizer, and the rules by which videos and pictures become frames.

    Args:
        tokenizer: with the frame token among its tokens.
        chat_template: puts one frame token where a video stands, and ``<picture>`` where a picture does.
        frame_token: its spelling.
        mark_token: spelling of the token in front of the frames, or None for none.
        views: ``size``, side of a frame in pixels; ``crop``, the share of the shorter side that the centred square has;
            ``frames``, most frames of a video; ``sampling``, ``span`` (spread over the video), ``stride`` or ``fps``,
            with ``stride`` and ``fps``; ``max_fps``, most frames of each second, or None; ``image_looks``, frame tokens
            of a picture.
        image_mean: of each channel of pixels in [0, 1].
        image_std: likewise.
        question: what is asked where a conversation asks nothing.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        chat_template: Any = None,
        frame_token: str = "<frame>",
        mark_token: str | None = None,
        views: dict[str, Any] | None = None,
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
        question: str = "",
    ):
        super().__init__(tokenizer, chat_template=chat_template)
        self.frame_token, self.mark_token, self.views, self.question = frame_token, mark_token, views or {}, question
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self.frame_token_id = tokenizer.convert_tokens_to_ids(frame_token)

    @property
    def model_input_names(self) -> list[str]:
        """Return the names of what a call returns."""
        return ["input_ids", "attention_mask", "pixel_values_videos"]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        return_tensors: str | None = None,
        video_metadata: Any = None,
        num_frames: int | None = None,
        fps: float | None = None,
        do_sample_frames: bool = True,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare rows of text with their videos and pictures.

        Args:
            images: pictures, or a list of them for each text: PIL images, uint8 arrays [H, W, 3], or paths.
            text: with one frame token where the video of a row stands, or ``<picture>``.
            videos: videos, or a list of them for each text: paths, bytes of a file, uint8 arrays [T, H, W, 3], or lists
                of pictures.
            return_tensors: ``"pt"`` for tensors.
            video_metadata: for videos that are given as frames, each one's ``{"fps": ...}``.
            num_frames: most frames of a video, unlike in training.
            fps: most frames of each second, likewise.
            do_sample_frames: choose frames of a video; else all are read.
            kwargs: options of other processors, with the values that say what happens here anyway.
        """
        for name, value in kwargs.items():
            if value not in _ALLOWED.get(name, ()):
                raise TypeError(f"a {type(self).__name__} has no option {name}={value!r}")
        if text is None:
            raise ValueError("give a text: a question with the frame token where the video stands")
        texts = [text] if isinstance(text, str) else list(text)
        changes = {"frames": num_frames, "max_fps": fps}
        views = {**self.views, **{name: value for name, value in changes.items() if value is not None}}
        rates = iter(video_metadata or [])
        # Each kind in the order of the texts: a text says which of them it is about.
        left: dict[str, Iterator[Any]] = {
            self.frame_token: iter([Video(item, next(rates, None), do_sample_frames) for item in _flat(videos)]),
            PICTURE: iter([Picture(item) for item in _flat(images)]),
        }
        rows, pixels = [], []
        for row in texts:
            parts = re.split(f"({'|'.join(map(re.escape, left))})", row)
            if len(parts) > 3:
                raise ValueError("a conversation has one video or picture")
            shown, looks = np.zeros((0, views["size"], views["size"], 3), np.uint8), 0
            if len(parts) == 3:
                source = next(left[parts[1]], None)
                if source is None:
                    raise ValueError(f"a text asks for a {_KINDS[parts[1] == PICTURE]}, and none is left")
                shown = source.frames(views)
                looks = source.looks(views) if isinstance(source, Picture) else len(shown)
            # Each part by itself, as in training, so that no token reaches over the seam.
            ids = [self.tokenizer.encode(part, add_special_tokens=False) if part else [] for part in parts[::2]]
            marks = [self.tokenizer.convert_tokens_to_ids(self.mark_token)] if self.mark_token and looks else []
            rows.append([*ids[0], *marks, *[self.frame_token_id] * looks, *(ids[1] if len(ids) > 1 else [])])
            pixels.append((self._normalised(shown), looks))
        for mark, sources in left.items():
            if next(sources, None) is not None:
                raise ValueError(f"there is a {_KINDS[mark == PICTURE]} more than the texts have places for")
        if any(len(clip) > 1 for clip, _ in pixels):  # only among themselves do pictures stay one frame for all looks
            pixels = [(clip.repeat(looks, 0) if len(clip) == 1 else clip, looks) for clip, looks in pixels]
        return BatchFeature(self._padded(rows, [clip for clip, _ in pixels]), tensor_type=return_tensors)

    def _padded(self, rows: list[list[int]], pixels: list[np.ndarray]) -> dict[str, Any]:
        """Return rows of unequal lengths as arrays: text is padded in front, frames are padded behind."""
        most, frames = max(map(len, rows)), max(map(len, pixels))
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids, mask = np.full((len(rows), most), pad, np.int64), np.zeros((len(rows), most), np.int64)
        for place, row in enumerate(rows):
            ids[place, most - len(row) :], mask[place, most - len(row) :] = row, 1
        found: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if frames:
            clips = np.zeros((len(rows), frames, *pixels[0].shape[1:]), np.float32)
            for place, clip in enumerate(pixels):
                clips[place, : len(clip)] = clip
            found["pixel_values_videos"] = clips
        return found

    def _normalised(self, frames: np.ndarray) -> np.ndarray:
        """Return frames uint8 [T, S, S, 3] as float32 [T, 3, S, S]."""
        mean, std = (np.asarray(x, np.float32)[:, None, None] for x in (self.image_mean, self.image_std))
        return frames.transpose(0, 3, 1, 2).astype(np.float32) * (1 / (255 * std)) - mean / std

    def batch_decode(self, *args: Any, **kwargs: Any) -> list[str]:
        """Decode rows of token ids, as the tokenizer does."""
        return self.tokenizer.batch_decode(*args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> str:
        """Decode token ids, as the tokenizer does."""
        return self.tokenizer.decode(*args, **kwargs)


def _flat(items: Any) -> list[Any]:
    """Return videos or pictures in the order of the texts, whether they are in a list for each text or not."""
    if items is None:
        return []
    if not isinstance(items, list | tuple):
        return [items]
    if all(isinstance(item, list | tuple) for item in items):
        return [one for item in items for one in item]
    return list(items)
