"""``python -m benchmarks.training.fvlm_shapes VISION LANGUAGE``: forward passes at the sizes that real models have.

The published computation and fastvid's take turns, with the weights in two folders of Hugging Face's layout. Printed
are the seconds of each, their ratio, and by how much the losses differ. On a CPU these are seconds of computing, so
that other programs beside it count little; on a GPU, seconds that pass.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import tyro

from benchmarks.baselines.published_fvlm import Published, Samples
from fastvid.data import ChatFormat
from fastvid.data.text.conversation import Conversation, Turn
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode, ModelConfig
from fastvid.projects.fvlm.multiple_choice import Prompt, score
from fastvid.projects.fvlm.open_model import open_model

MODES: tuple[Mode, ...] = ("coarse", "parallel", "stream")
QUESTION = "What does the person do after they have opened the door?"
OPTIONS = ("They sit down.", "They take a cup.", "They close it again.", "They leave the room.")


@dataclass(frozen=True)
class Config:
    """Times forward passes at real sizes."""

    vision: Annotated[str, tyro.conf.Positional]
    """Folder with an encoder, such as DINOv2's."""
    language: Annotated[str, tyro.conf.Positional]
    """Folder with a language model and its tokenizer."""
    frames: tuple[int, ...] = (8, 16)
    """Frames of a clip."""
    sizes: tuple[int, ...] = (224, 256)
    """Sides of a frame, pixels."""
    rounds: int = 3
    """Times that the two take turns."""
    choices: bool = True
    """Also time a multiple-choice question."""
    bf16: bool = False
    """Autocast."""


def main() -> None:
    """Print a row for each number of frames, size and computation."""
    config = tyro.cli(Config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, tokenizer = open_model(ModelConfig(encoder=config.vision, language=config.language), size=224, texts=())
    model, chat = model.to(device).eval(), ChatFormat(tokenizer)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}, {'bfloat16' if config.bf16 else 'float32'}\n")
    print("| frames | pixels | what | published, s | fastvid, s | ratio | difference of the losses |")
    print("|---|---|---|---|---|---|---|")
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
        for frames in config.frames:
            for size in config.sizes:
                random = torch.Generator().manual_seed(0)
                clips = torch.randint(256, (1, frames, size, size, 3), generator=random, dtype=torch.uint8).to(device)
                for what, theirs, ours in sides(model, chat, clips)[: None if config.choices else len(MODES)]:
                    times = [[timed(theirs, device), timed(ours, device)] for _ in range(config.rounds)]
                    seconds = [statistics.median(each[side][0] for each in times) for side in (0, 1)]
                    ratio = statistics.median(a[0] / b[0] for a, b in times)
                    apart = max(abs(a - b) for a, b in zip(times[0][0][1], times[0][1][1], strict=True))
                    cells = (f"{seconds[0]:.3f}", f"{seconds[1]:.3f}", f"{ratio:.2f}x", f"{apart:.1e}")
                    print(f"| {frames} | {size} | {what} | {' | '.join(cells)} |", flush=True)


def sides(
    model: FoveatedVLM, chat: ChatFormat, clips: torch.Tensor
) -> list[tuple[str, Callable[[], list[float]], Callable[[], list[float]]]]:
    """Return computations, each as published and as fastvid's; both return losses."""
    published = Published(model)
    options = [asked(chat, clips, option) for option in OPTIONS]
    samples = [Samples.of(inputs) for inputs in options]
    real, prompt = options[0].frames, Prompt.of(chat, QUESTION, OPTIONS)
    found: list[tuple[str, Callable[[], list[float]], Callable[[], list[float]]]] = [
        (
            f"answer, {mode}",
            lambda mode=mode: [float(published.answers(samples[0], mode))],  # type: ignore[misc] # bound now
            lambda mode=mode: [float(model(options[0], mode).losses.mean())],  # type: ignore[misc]
        )
        for mode in MODES
    ]

    def choices() -> list[float]:
        scores = score(model, clips, real, [[prompt]], MODES)
        return [-float(value) for mode in MODES for value in scores[mode].mean[0, 0]]

    found.append((
        f"{len(OPTIONS)} options in {len(MODES)} modes",
        lambda: [loss for losses in published.choices(samples, MODES).values() for loss in losses], choices,
    ))  # fmt: skip
    return found


def asked(chat: ChatFormat, clips: torch.Tensor, answer: str) -> Inputs:
    """Return the question with an answer."""
    row = chat.row(Conversation((Turn(QUESTION, answer),)))
    rows = (row.before, row.after, row.labels)
    before, after, labels = (torch.tensor(x, device=clips.device)[None, None] for x in rows)
    one = torch.ones(1, 1, dtype=torch.bool, device=clips.device)
    inputs = Inputs(clips, one, one, before, before >= 0, after, after >= 0, labels)
    return replace(inputs, frames=one.expand(1, clips.shape[1]))


def timed(run: Callable[[], list[float]], device: torch.device) -> tuple[float, list[float]]:
    """Return the seconds that a computation takes, and its losses."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    losses = run()  # plain numbers: the device is done
    return clock() - start, losses


if __name__ == "__main__":
    main()
