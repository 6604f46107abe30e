"""Options of ``python -m fastvid.eval RUN`` for a run of fVLM. No model code is imported, so that they are read
quickly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastvid.data.text.conversation import CAPTION_PROMPT
from fastvid.projects.fvlm.model_config import Mode
from fastvid.ranges import Count


@dataclass(frozen=True)
class AnswerData:
    """Videos, and what is asked about them."""

    path: str
    """Multiple-choice questions: a list of MVBench, Video-MME or NExT-QA (.json, .jsonl, .csv) or a folder of such
    lists; or videos about which something is written, as for training."""
    videos: str | None = None
    """The folder below which the videos of a list of questions lie; default: the list's own."""
    labels: str | None = None
    """Table of paths and labels, for a folder of videos about which something is written; results are by label."""
    token_ids: bool | None = None
    """Read stored token_ids of what is written, and not the words beside them; default: as in training."""


@dataclass(frozen=True, kw_only=True)
class AnswersConfig:
    """Measures the answers of a vision-language model in each mode: multiple-choice questions by the log-likelihood of
    their options, with intervals and controls, or the cross-entropy of what is written about videos."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or the folder of its saved model."""
    data: AnswerData
    """Videos and questions."""
    modes: tuple[Mode, ...] = ("coarse", "parallel", "stream")
    """Ways in which videos are read; their frames are encoded once for all of them."""
    answer: Literal["letters", "texts"] = "letters"
    """letters: options are listed with letters, and the letter is the answer; texts: the question stands alone, and the
    options' own words are the answers, compared by their log-likelihood per token."""
    controls: bool = True
    """Also answer without the video, and, with letters, with the options in every cyclic order."""
    test: Count | None = None
    """Most videos, or parts of videos, chosen by their keys; default: all."""
    batch: Count = 4
    """Videos in a forward pass."""
    questions: Count = 8
    """Most questions about each of them at a time."""
    prompt: str = CAPTION_PROMPT
    """Question that a caption answers."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Autocast."""
    out: Path | None = None
    """JSON file for the results; default: eval-NAME.json in the run, after the data, and eval-NAME-HASH.json where
    other data of that name has its results there."""
