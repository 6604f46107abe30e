"""The training steps that are compared, each cut into the same pieces.

``published`` re-states what was published, ``same`` is fastvid computing the same function, ``recommended`` is
fastvid's cheaper predictor and compiled blocks at the same student, teacher and batch.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch._functorch.config as functorch_config
from torch import nn
from torch._inductor import list_mode_options
from torch._inductor.compile_fx import compile_fx

from benchmarks.baselines import published_salt
from benchmarks.baselines.published_salt import PublishedEncoder, PublishedPredictor
from fastvid.models import VideoViT, VideoViTConfig
from fastvid.nn import Predictor, PredictorConfig
from fastvid.ops import MaskSpec, masked_latent_loss, multiblock_mask
from fastvid.projects.salt.masks import random_subset
from fastvid.projects.salt.model import Mask

RATIO = 0.75  # of tokens masked
PREDICTED = 1 / 4  # of the tokens, where not all masked ones are predicted
_MEMORY_BUDGET = 0.8  # of compiled blocks, where they have one


@dataclass(frozen=True)
class Size:
    """The sizes of a comparison.

    Attributes:
        name: a timm ViT: student and teacher.
        size: variant of the frame in pixels, of clips of 16 frames.
        batch: clips in a step.
        width: width of the predictor.
        heads: of the predictor.
        depth: of student, teacher and predictor alike.
    """

    name: str
    size: int
    batch: int
    width: int
    heads: int
    depth: int = 12

    @property
    def grid(self) -> tuple[int, int, int]:
        return 8, self.size // 16, self.size // 16

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


SIZES = {
    # What was published: a ViT-B, 1568 tokens, a predictor half as wide.
    "base": Size("vit_base_patch16_224", 224, 32, width=384, heads=12),
    # A quarter of its widths and of its tokens: matrices and attention keep their shares of the arithmetic.
    "quarter": Size("vit_tiny_patch16_224", 112, 4, width=96, heads=3),
    # To try the code that measures, in a second.
    "rehearsal": Size("vit_tiny_patch16_224", 32, 2, width=48, heads=3, depth=1),
}


class _Inductor:
    """torch.compile's own backend with a memory budget; variants of different ones share no compiled code."""

    def __init__(self, mode: str | None, memory_budget: float):
        self.options = list_mode_options(mode) if mode else None
        self.memory_budget = memory_budget

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        with functorch_config.patch(activation_memory_budget=self.memory_budget):
            return compile_fx(graph, inputs, config_patches=self.options)


class Variant(ABC):
    """One way to make a step. The pieces are called in the order of :func:`forward`.

    Attributes:
        encoder: embeds and encodes visible tokens.
        predictor: predicts masked tokens.
        module: both of them, what is trained.
        teacher: what is not.
        optimizer: trains the module.
    """

    encoder: Any  # of modules that have no base class but nn.Module
    predictor: Any
    teacher: Any

    def __init__(self, encoder: nn.Module, predictor: nn.Module, size: Size, device: torch.device):
        self.encoder, self.predictor = encoder, predictor
        self.size, self.device = size, device
        self.module = nn.ModuleList([encoder, predictor]).to(device).train()
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-5, betas=(0.9, 0.95), fused=True)

    def pixels(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the input of embed and teach."""
        return clip

    @abstractmethod
    def masks(self) -> Mask:
        """Draw visible [B, V] and masked [B, M]."""

    @abstractmethod
    def teach(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute the latents [B, N, D] of all tokens."""

    def embed(self, pixels: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Compute the tokens [B, V, D] with positions."""
        return self.encoder.embed(pixels, mask[0])

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map [B, V, D] to [B, V, D]."""
        return self.encoder.encode(tokens)

    def predict(self, z: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Map [B, V, D] to [B, M, D]."""
        return self.predictor(z, *mask)

    @abstractmethod
    def loss(self, pred: torch.Tensor, target: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Compute the loss of predictions [B, M, D] of latents [B, N, D]."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """Return the transformer blocks of teacher, encoder and predictor."""

    def compile(self, mode: str | None = None, memory_budget: float = 1.0) -> "Variant":
        """Compile the blocks, each kind once, for the one set of shapes of training.

        Args:
            mode: of torch.compile.
            memory_budget: share of the activations that are kept for the backward pass.
        """
        backend = _Inductor(mode, memory_budget)
        for block in self.blocks():
            block.compile(dynamic=False, fullgraph=True, backend=backend)
        return self

    def update(self) -> None:
        """Clip the gradient and update the weights."""
        nn.utils.clip_grad_norm_(self.module.parameters(), 0.02)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class Published(Variant):
    """The literal re-statement, with the weights of fastvid's modules."""

    def __init__(self, student: VideoViT, teacher: VideoViT, predictor: Predictor, size: Size, device: torch.device):
        super().__init__(PublishedEncoder(student), PublishedPredictor(predictor), size, device)
        self.teacher = PublishedEncoder(teacher).requires_grad_(False).eval().to(device)
        self.config = student.config

    def blocks(self):
        return [*self.teacher.blocks, *self.encoder.blocks, *self.predictor.blocks.layers]

    def pixels(self, clip):
        return published_salt.float_video(clip, self.config.mean, self.config.std)

    def masks(self):
        size = self.size
        return published_salt.masks(size.batch, size.grid, round(RATIO * size.tokens), self.device)

    @torch.no_grad()
    def teach(self, pixels):
        return self.teacher.encode(self.teacher.embed(pixels))

    def loss(self, pred, target, mask):
        return published_salt.loss(pred, target, mask[1])


class Fastvid(Variant):
    """fastvid's modules and ops, as its training recipe calls them.

    Args:
        predicted: predict a random subset of this many masked tokens; None for all.
    """

    def __init__(
        self,
        student: VideoViT,
        teacher: VideoViT,
        predictor: Predictor,
        size: Size,
        device: torch.device,
        predicted: int | None = None,
    ):
        super().__init__(copy.deepcopy(student), copy.deepcopy(predictor), size, device)
        self.teacher = copy.deepcopy(teacher).requires_grad_(False).eval().to(device)
        self.predicted = predicted
        self.ids, self.draw = torch.arange(size.batch, device=device), 0

    def blocks(self):
        return [*self.teacher.blocks, *self.encoder.blocks, *self.predictor.blocks]

    def masks(self):
        self.draw += 1
        hidden = round(RATIO * self.size.tokens)
        visible, masked = multiblock_mask(
            self.ids, self.size.grid, masked=hidden, visible=self.size.tokens - hidden, spec=MaskSpec.salt(),
            seed=0, draw=self.draw,
        )  # fmt: skip
        if self.predicted is not None:
            masked = random_subset(self.ids, masked, self.predicted, seed=1, draw=self.draw)
        return visible, masked

    @torch.no_grad()
    def teach(self, pixels):
        return self.teacher(pixels)

    def loss(self, pred, target, mask):
        return masked_latent_loss(pred, target, mask[1], kind="mse", normalize_target=True)


NAMES = ("published", "same", "recommended")
# What lies between them: each changes one thing.
STEPS = (
    "published", "published, compiled", "same", "same, compiled", "subset, compiled", "subset, budget", "recommended"
)  # fmt: skip


def make_variant(name: str, size: Size, device: torch.device, mode: str | None = None) -> Variant:
    """Return one of :data:`STEPS`; all begin at the same weights, but a predictor that only cross-attends has its own.

    Args:
        name: ``published``, ``same`` (fastvid, identical mathematics), ``subset`` (:data:`PREDICTED` of the tokens are
            predicted, at random) or ``recommended`` (the same, and they attend to the visible tokens only; compiled);
            the first three compiled where ``, compiled`` follows, and with a memory budget where ``, budget`` does.
        size: size of student, teacher and predictor.
        device: where it runs.
        mode: of torch.compile.
    """
    kind, _, how = name.partition(", ")
    torch.manual_seed(0)
    config = VideoViTConfig(size.name, size=size.size, depth=size.depth, positions="learned")
    student, teacher = VideoViT(config), VideoViT(config)
    layout: Literal["concat", "cross"] = "cross" if kind == "recommended" else "concat"
    narrow = PredictorConfig(size.width, size.depth, size.heads, layout)
    predictor = Predictor(student.dim, teacher.dim, size.grid, narrow)
    variant: Variant
    if kind == "published":
        variant = Published(student, teacher, predictor, size, device)
    else:
        predicted = None if kind == "same" else round(PREDICTED * size.tokens)
        variant = Fastvid(student, teacher, predictor, size, device, predicted)
    if how == "budget":
        return variant.compile(mode, _MEMORY_BUDGET)
    return variant.compile(mode) if how == "compiled" or kind == "recommended" else variant


def autocast(device: torch.device) -> torch.autocast:
    """Return autocast to bfloat16 on a GPU, float32 on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def random_clip(size: Size, device: torch.device) -> torch.Tensor:
    """Draw uint8 [B, 16, H, W, 3]."""
    return torch.randint(256, (size.batch, 16, size.size, size.size, 3), dtype=torch.uint8, device=device)


def forward(variant: Variant, clip: torch.Tensor, mask: Mask | None = None) -> torch.Tensor:
    """Compute the loss of a step on clip uint8 [B, 16, H, W, 3], with the variant's own masks unless some are given."""
    with autocast(variant.device):
        pixels = variant.pixels(clip)
        mask = mask or variant.masks()
        target = variant.teach(pixels)  # first: its activations are gone before the student's are kept
        return variant.loss(variant.predict(variant.encode(variant.embed(pixels, mask)), mask), target, mask)


def step(variant: Variant, clip: torch.Tensor) -> None:
    """Run a whole step, and wait for the GPU."""
    forward(variant, clip).backward()
    variant.update()
    if variant.device.type == "cuda":
        torch.cuda.synchronize()
