"""lmms-eval's benchmarks on a trained fVLM: ``python -m lmms_eval --model fastvid_fvlm --model_args pretrained=RUN``.

lmms-eval finds the model by the entry point that this package declares. ``pip install 'fastvid[lmms]'`` brings what it
needs for that, and ``pip install --no-deps lmms-eval`` itself, which wants an older PyAV.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from lmms_eval.api.model import lmms
from tqdm import tqdm

from fastvid.data import ChatFormat, PaddedEvaluation, Sample
from fastvid.projects.fvlm.generate import Answer
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.multiple_choice import BLIND, Prompt, score
from fastvid.projects.fvlm.saved import TrainedFvlm
from fastvid.projects.load import load
from fastvid.video import ViewSpec, decode_view, probe
from fastvid.video.resize import crop_resize

_TOKENS = 64  # of an answer, where a task does not say
_MARKS = re.compile(r"<(?:image|video)>\n?")  # stand for the pictures in some prompts; the layout puts these elsewhere


def manifest() -> Any:
    """Return what lmms-eval registers the model by."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="fastvid_fvlm", simple_class_path=f"{__name__}.{FvlmLmms.__name__}")


@dataclass(frozen=True)
class _Asked:
    """A request of lmms-eval.

    Attributes:
        text: the prompt.
        wanted: the continuation whose likelihood is asked for, or how to generate.
        document: names of the task and the split, and the number of the document; None for text alone.
        visuals: makes the document's videos or pictures.
    """

    text: str
    wanted: Any
    document: tuple[str, str, int] | None
    visuals: Callable[[], Any]


class FvlmLmms(lmms):  # type: ignore[misc] # lmms-eval has no types
    """A trained model as lmms-eval asks it: prompts in words, videos as paths, pictures as PIL images.

    Every picture is a frame; of a video as many are read as in training.

    Args:
        pretrained: a run's directory, or the folder of its saved model.
        mode: how videos are read: coarse, parallel or stream; default: as in training.
        device: default: a GPU if there is one.
        batch_size: requests are answered one by one, those about one document with one encoding of its frames.

    Raises:
        ValueError: no such mode, or a run of another project.
    """

    def __init__(self, pretrained: str, mode: str | None = None, device: str | None = None, batch_size: int | str = 1):
        super().__init__()
        trained = load(pretrained)
        if not isinstance(trained, TrainedFvlm):
            raise ValueError(f"{pretrained} is no run of fvlm")
        chosen = mode or trained.about["mode"]
        if chosen not in get_args(Mode):
            raise ValueError(f"no mode {chosen!r}: choose {', '.join(get_args(Mode))}")
        self.mode: Any = chosen
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_size = batch_size
        self.trained = trained.to(self.device).eval()
        self.chat = ChatFormat(trained.tokenizer, trained.model.config.layout)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the likeliest answer to each request, cut where its ``until`` begins.

        Raises:
            ValueError: a request wants samples or beams.
        """
        said = []
        for asked in map(self._asked, tqdm(requests, desc="answers")):
            options = asked.wanted
            if options.get("do_sample") or (options.get("num_beams") or 1) > 1:
                raise ValueError(f"fvlm takes the likeliest token each time: samples and beams are not made: {options}")
            before, front = self.chat.prompt(asked.text)
            most = int(options.get("max_new_tokens") or _TOKENS)
            answer = Answer(self.trained.model, self.chat, before, front, mode=self.mode, most=most)
            frames, looks = self._seen(asked.visuals())
            text = "".join(answer.about(frames, looks // max(1, len(frames)))).strip()
            until = options.get("until") or []
            for stop in [until] if isinstance(until, str) else until:
                text = text.split(stop)[0] if stop else text
            said.append(text)
        return said

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return the cross-entropy per token of each request's continuation, and whether it is what would be generated.

        lmms-eval's tasks choose the continuation whose number is least, as its own models return their loss here, and
        no log-likelihood. The frames of a document are encoded once for all of its continuations.
        """
        every = [self._asked(request) for request in requests]
        groups: dict[Any, list[int]] = {}
        for number, asked in enumerate(every):
            groups.setdefault(asked.document, []).append(number)
        found: dict[int, tuple[float, bool]] = {}
        for numbers in tqdm(groups.values(), desc="likelihoods"):
            seen = self._seen(every[numbers[0]].visuals())
            for place, scores in self._scores([every[n] for n in numbers], *seen).items():
                found[numbers[place]] = scores
        return [found[number] for number in range(len(every))]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: a trained model answers one question at a time."""
        raise NotImplementedError("fvlm answers one question at a time: tasks of several rounds are not supported")

    def _asked(self, request: Any) -> _Asked:
        """Read a request."""
        if len(request.args) == 2:  # a text and a continuation
            text, wanted = request.args
            return _Asked(_MARKS.sub("", text), wanted, None, lambda: None)
        text, wanted, doc_to_visual, number, task, split = request.args
        document = self.task_dict[task][split][number]
        wanted = wanted(document) if callable(wanted) else wanted
        return _Asked(_MARKS.sub("", text), wanted, (task, split, number), lambda: doc_to_visual(document))

    def _scores(self, asked: Sequence[_Asked], frames: torch.Tensor, looks: int) -> dict[int, tuple[float, bool]]:
        """Return the scores of requests about one document, by their numbers."""
        prompts: dict[str, list[int]] = {}
        for number, one in enumerate(asked):
            prompts.setdefault(one.text, []).append(number)
        rows = [Prompt.of(self.chat, text, [asked[n].wanted for n in numbers], end=False)
                for text, numbers in prompts.items()]  # fmt: skip
        condition = self.mode if looks else BLIND
        real = torch.ones(1, looks, dtype=torch.bool, device=self.device)
        scores = score(self.trained.model, frames[None], real, [rows], (condition,))[condition]
        return {
            number: (-float(scores.mean[0, row, place]), bool(scores.greedy[0, row, place]))
            for row, numbers in enumerate(prompts.values()) for place, number in enumerate(numbers)
        }  # fmt: skip

    def _seen(self, visuals: Any) -> tuple[torch.Tensor, int]:
        """Return what the model sees of videos and pictures, uint8 [T, size, size, 3], and how often it looks: once at
        each frame, and at a picture alone as often as in training."""
        parts = list(_flat(visuals))
        size = self.trained.about["views"]["size"]
        clips = [np.empty((0, size, size, 3), np.uint8), *map(self._clip, parts)]
        frames = torch.from_numpy(np.concatenate(clips)).to(self.device)
        alone = len(parts) == 1 and not isinstance(parts[0], str | Path)
        return frames, self.trained.about.get("image_looks", 1) if alone else len(frames)

    def _clip(self, visual: Any) -> np.ndarray:
        spec = ViewSpec.from_fields(self.trained.about["views"])
        if isinstance(visual, str | Path):
            data = Path(visual).read_bytes()
            info = probe(data)
            (view,) = PaddedEvaluation(spec, fps=self.trained.about["max_fps"]).views(Sample(str(visual)), info)
            return decode_view(data, replace(view, frames=tuple(dict.fromkeys(view.frames))), info=info)
        picture = np.asarray(visual.convert("RGB"))
        height, width = picture.shape[:2]
        side = max(1, round(min(height, width) * spec.crop))
        return crop_resize(picture, ((height - side) // 2, (width - side) // 2, side, side), spec.size)[None]


def _flat(visuals: Any) -> Iterable[Any]:
    """Yield videos and pictures out of nested lists."""
    if isinstance(visuals, list | tuple):
        for one in visuals:
            yield from _flat(one)
    elif visuals is not None:
        yield visuals
