"""Training steps of a foveated vision-language model as published and fastvid's, with the same weights.

Models have random weights in the shapes of DINOv2-S and SmolLM2-135M, or in these shapes made narrower: what is
compared does not depend on the weights.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM

from benchmarks.baselines.published_fvlm import Published, Samples, marked
from benchmarks.training.salt_measure import peak_of
from benchmarks.training.salt_sides import autocast
from fastvid.data import Batch
from fastvid.projects.fvlm.dinov2 import Dinov2Encoder
from fastvid.projects.fvlm.generate import Answer
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.language import LanguageModel
from fastvid.projects.fvlm.loss import TextLoss
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode, ModelConfig
from fastvid.projects.fvlm.multiple_choice import Prompt, score
from fastvid.projects.fvlm.reconstruct import Reconstructor
from fastvid.projects.fvlm.reconstruct_config import ReconstructConfig
from fastvid.projects.fvlm.reconstruct_loss import ReconstructLoss

PATCH = 14


@dataclass(frozen=True)
class Size:
    """The sizes of a model and of its batches.

    Attributes:
        vision: width of the encoder, of 12 layers unless ``layers`` says less.
        vision_heads: its heads.
        side: side of a frame in pixels.
        language: width of the language model, of 30 layers unless ``layers`` says less, with 9 heads.
        vocabulary: tokens of the language model.
        latent: side of the latents that are reconstructed.
        clips: clips in a step.
        frames: frames of a clip.
        answer: tokens of an answer.
        layers: most layers of both.
    """

    vision: int
    vision_heads: int
    side: int
    language: int
    vocabulary: int
    latent: int
    clips: int
    frames: int = 8
    answer: int = 24
    layers: int = 30


SIZES = {
    # What was published: DINOv2-S at 224 pixels and SmolLM2-135M. A caption of WebVid has some 24 tokens.
    "base": Size(384, 6, 224, 576, 49152, 32, clips=8),
    # A quarter of the widths, all tokens: the encoder's and the language model's shares of the arithmetic stay.
    "quarter": Size(96, 3, 224, 144, 12288, 8, clips=1),
    # An eighth of the widths, a quarter of the tokens: an operation is over about as soon as the next one can be
    # begun, as on a GPU at the published sizes.
    "narrow": Size(48, 3, 112, 72, 6144, 4, clips=1),
    # To try the code that measures, in a second.
    "rehearsal": Size(16, 2, 28, 36, 64, 2, clips=2, frames=3, answer=4, layers=1),
}

JOINT: dict[str, Any] = {
    "layout": "video-first", "first_query": "learnt", "marks": True, "aim": "frames", "mode": "parallel",
    "iterations": 2,
}  # fmt: skip


def make_model(size: Size, device: torch.device, **options: Any) -> FoveatedVLM:
    """Make a model of a size; the options are those of :class:`ModelConfig`."""
    torch.manual_seed(0)
    encoder = Dinov2Config(
        hidden_size=size.vision, num_hidden_layers=min(12, size.layers), num_attention_heads=size.vision_heads,
        patch_size=PATCH, image_size=size.side, use_mask_token=False,
    )  # fmt: skip
    language = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.language, intermediate_size=8 * size.language // 3,
        num_hidden_layers=size.layers, num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
        attn_implementation="sdpa",
    )  # fmt: skip
    parts = Dinov2Encoder(Dinov2Model(encoder)), LanguageModel(LlamaForCausalLM(language))
    return FoveatedVLM(ModelConfig(**options), *parts, token_scale=0.14).to(device)


def make_batch(
    size: Size,
    device: torch.device,
    *,
    clips: int | None = None,
    questions: int = 1,
    stills: bool = False,
    prompt: int = 2,
    answer: int | None = None,
) -> Batch:
    """Draw a batch as a loader gives it.

    Args:
        size: size of the model; it has the frames of a clip.
        device: where it lies.
        clips: number of clips; default: the size's.
        questions: about each clip.
        stills: still images, which are looked at as often as a clip has frames.
        prompt: tokens in front of the frames.
        answer: tokens behind them; default: the size's.
    """
    random = torch.Generator().manual_seed(1)
    count, tokens = clips or size.clips, answer or size.answer
    rows = (count, questions)
    pixels = (count, 1 if stills else size.frames, size.side, size.side, 3)
    after = torch.randint(size.vocabulary, (*rows, tokens), generator=random)
    extra = {
        "frames": torch.ones(count, size.frames, dtype=torch.bool),
        "questions": torch.ones(rows, dtype=torch.bool),
        "before": torch.randint(size.vocabulary, (*rows, prompt), generator=random),
        "before_mask": torch.ones(*rows, prompt, dtype=torch.bool),
        "after": after,
        "after_mask": torch.ones_like(after, dtype=torch.bool),
        "labels": after,
        "latents": torch.randn(count, pixels[1], 4, size.latent, size.latent, generator=random),
    }
    ids = torch.arange(count)
    return Batch(
        keys=[f"clip {i}" for i in range(count)], ids=ids, view_hashes=ids,
        clips=torch.randint(256, pixels, generator=random, dtype=torch.uint8).to(device),
        extra={name: x.to(device) for name, x in extra.items()},
    )  # fmt: skip


class Training:
    """A model, what it is trained by, and its optimizer.

    Args:
        module: the model.
        loss: computes the loss to minimise.
    """

    def __init__(self, module: nn.Module, loss: Callable[[], torch.Tensor]):
        self.module, self.loss = module, loss
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
        self.device = next(module.parameters()).device

    def compiled(self) -> "Training":
        """Compile what ``--run.compile True`` compiles."""
        cast(FoveatedVLM | Reconstructor, self.module).compile_parts()
        return self

    def forward(self) -> torch.Tensor:
        """Return the loss, under autocast on a GPU."""
        with autocast(self.device):
            return self.loss()

    def step(self) -> None:
        """Make a whole step, and wait for it."""
        self.forward().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self) -> int:
        """Measure the most bytes of tensors that are alive at once in a step."""
        self.step()  # the optimizer has its state
        return self.resident_bytes() + peak_of(self.step, self.device)

    def resident_bytes(self) -> int:
        """Count the bytes that outlive a step: weights and the optimizer's state."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        for state in self.optimizer.state.values():
            tensors += [value for value in state.values() if torch.is_tensor(value)]
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        return sum(storages.values())


OURS, PUBLISHED, COMPILED = "fastvid", "as published", "compiled"


def joint(size: Size, device: torch.device) -> dict[str, Training]:
    """Return the joint step of captions and reconstruction, in a step that does not measure the coarse pass."""
    config = ReconstructConfig(weight=0.5, latents="data", side=size.latent)
    ours = Reconstructor(make_model(size, device, **JOINT), (4, size.latent, size.latent), config).to(device)
    theirs, batch = copy.deepcopy(ours), make_batch(size, device)
    loss = ReconstructLoss(TextLoss("parallel", LossConfig(coarse_weight=0.0)), config)

    def as_published() -> torch.Tensor:
        samples = Samples.of(Inputs.of(batch))
        published = Published(theirs.model, theirs.film, theirs.film.first_latent)
        return published.joint(samples, batch.extra["latents"], marked(theirs.model, samples)).loss

    return {
        OURS: Training(ours, lambda: loss(ours, batch, 1)[0].mean), PUBLISHED: Training(theirs, as_published)
    }  # fmt: skip


def answering(size: Size, device: torch.device, batch: Batch, mode: Mode = "parallel") -> dict[str, Training]:
    """Return a step of the answers' cross-entropy alone; as published every question is a sample of its own."""
    options = {"layout": "video-first", "first_query": "learnt"}
    ours = make_model(size, device, **options)
    theirs = copy.deepcopy(ours)
    loss = TextLoss(mode, LossConfig(coarse_weight=0.0))
    return {
        OURS: Training(ours, lambda: loss(ours, batch, 1)[0].mean),
        PUBLISHED: Training(theirs, lambda: Published(theirs).answers(Samples.of(Inputs.of(batch)), mode)),
    }


STEPS = JOINT_STEP, QUESTIONS, STILLS = (
    "fVLM joint step",
    "fVLM step, four questions of a clip",
    "fVLM step, still images",
)
Make = Callable[[], dict[str, Training]]


def steps(size: Size, device: torch.device, pictures: int | None = None) -> dict[str, Make]:
    """Return what makes both sides of each step that is compared, by the name of its benchmark.

    Args:
        size: size of the models.
        device: where they are.
        pictures: still images in a step; default: the size's clips.
    """
    return {
        JOINT_STEP: lambda: joint(size, device),
        QUESTIONS: lambda: answering(size, device, make_batch(size, device, questions=4)),
        STILLS: lambda: answering(size, device, make_batch(size, device, stills=True, clips=pictures)),
    }


def add_compiled(sides: dict[str, Training], make: Make) -> None:
    """Add fastvid's side of a step with compiled parts, which must compute the same."""
    compiled = make()[OURS].compiled()
    check_same({OURS: compiled, PUBLISHED: sides[PUBLISHED]})
    sides[COMPILED] = compiled


MODES: tuple[Mode, ...] = ("coarse", "parallel", "stream")


def choosing(size: Size, device: torch.device) -> dict[str, Callable[[], dict[Mode, list[float]]]]:
    """Return what computes the log-likelihood of four options of a question about a clip, in three modes.

    As published every option is a sample of its own in every mode.
    """
    model = make_model(size, device, layout="video-first", first_query="learnt").eval()
    batch = make_batch(size, device, clips=1)
    clips = batch.clips
    assert clips is not None
    random = torch.Generator().manual_seed(2)
    before, front, *options = (
        torch.randint(size.vocabulary, (n,), generator=random).tolist() for n in (2, size.answer, 1, 3, 4, 6)
    )
    frames = batch.extra["frames"]
    rows = [[*front, *option] for option in options]
    samples = [
        Samples(
            clips, frames, whole([before], device), whole([row], device),
            torch.tensor([[-100] * len(front) + row[len(front) :]], device=device),
        )
        for row in rows
    ]  # fmt: skip

    def ours() -> dict[Mode, list[float]]:
        with autocast(device):
            found = score(model, clips, frames, [[Prompt(before, front, options)]], MODES)
        return {mode: found[mode].total[0, 0].tolist() for mode in MODES}

    def published() -> dict[Mode, list[float]]:
        with autocast(device):
            found = Published(model).choices(samples, MODES)
        counts = [len(option) for option in options]
        return {mode: [-x * n for x, n in zip(found[mode], counts, strict=True)] for mode in MODES}

    return {OURS: ours, PUBLISHED: published}


def whole(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of token ids of one length, int64 [R, n], and that all are real."""
    ids = torch.tensor(rows, device=device)
    return ids, torch.ones_like(ids, dtype=torch.bool)


def seconds_of_frames(
    size: Size, device: torch.device, early: int, late: int, some: int, rounds: int
) -> list[tuple[float, float]]:
    """Measure what frames early and late in a video cost in the mode ``stream``.

    A video is watched up to its frame ``late``, then ``rounds`` times another one up to its frame ``early`` and the
    first one ``some`` frames further: whatever else the machine does disturbs both.

    Returns:
        For each round the median seconds of the last ``some`` frames of both, the early ones' first.
    """
    model = make_model(size, device).eval()
    clips = make_batch(size, device, clips=1).clips
    assert clips is not None

    def watch(frames: int, before: Callable[[int], None] = lambda t: None) -> list[float]:
        seconds: list[float] = []

        def video() -> Iterator[torch.Tensor]:
            for t in range(frames):
                before(t)
                began = time.perf_counter()
                yield clips[0, t % size.frames]
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - began)

        answer = Answer(model, Silent(), [1, 2, 3], [4], most=0)  # type: ignore[arg-type]
        assert not list(answer.about(video()))
        return seconds

    pauses = range(late, late + some * rounds, some)
    short: list[float] = []

    def watch_another(t: int) -> None:
        if t in pauses:
            short.append(statistics.median(watch(early)[-some:]))

    with autocast(device):
        long = watch(pauses.stop, watch_another)
    return [(one, statistics.median(long[at : at + some])) for one, at in zip(short, pauses, strict=True)]


class Silent:
    """A chat format whose answers are empty."""

    end_ids = ()

    class tokenizer:
        """Its tokenizer."""

        @staticmethod
        def decode(ids: list[int], skip_special_tokens: bool = True) -> str:
            return ""


def check_same(sides: dict[str, Training]) -> None:
    """Raise AssertionError unless the losses and the gradients of both sides are equal to rounding."""
    losses = {name: side.forward() for name, side in sides.items()}
    tolerance = 1e-4 if losses[OURS].device.type == "cpu" else 3e-2  # float32, and bfloat16 under autocast
    ours, theirs = losses[OURS].item(), losses[PUBLISHED].item()
    assert abs(ours - theirs) <= tolerance * abs(theirs), f"the loss is {ours}, as published it is {theirs}"
    for loss in losses.values():
        loss.backward()
    pairs = zip(*(side.module.parameters() for side in sides.values()), strict=True)
    gradients = [[torch.zeros_like(p) if p.grad is None else p.grad for p in pair] for pair in pairs]
    difference = torch.stack([(one - other).norm() for one, other in gradients]).norm().item()
    norm = torch.stack([other.norm() for _, other in gradients]).norm().item()
    for side in sides.values():
        side.optimizer.zero_grad(set_to_none=True)
    assert difference <= 10 * tolerance * norm, (
        f"the gradients differ by {difference}; as published their norm is {norm}"
    )
