"""A model that reconstructs frames beside what it answers."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data import Batch
from fastvid.projects.fvlm.film import FilmHead, pixel_latents
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Coarse, Kind, Mode
from fastvid.projects.fvlm.output import Output
from fastvid.projects.fvlm.passes import Pass
from fastvid.projects.fvlm.reconstruct_config import ReconstructConfig
from fastvid.train.loss_sum import LossSum


@dataclass(frozen=True)
class Rebuilt:
    """The squared errors of reconstructed frames.

    Attributes:
        fine: [C, s, T], mean over a latent's elements; s is S, or 1 where all questions share what is known.
        coarse: of the coarse pass likewise; None where it was not made.
        real: bool [C, s, T], which of them count.
    """

    fine: torch.Tensor
    coarse: torch.Tensor | None
    real: torch.Tensor

    def sums(self) -> dict[str, LossSum]:
        """Return the sum over the real frames of each pass that was made, by the pass's name."""
        made = {"fine": self.fine, "coarse": self.coarse}
        count = self.real.sum().float()
        return {name: LossSum((x * self.real).sum(), count) for name, x in made.items() if x is not None}


class Reconstructor(nn.Module):
    """A model with a head that predicts each frame's latent before the frame is looked at.

    Args:
        model: the model.
        shape: channels, height and width of a latent.
        config: weights.
    """

    __call__: Callable[..., tuple[Output, Rebuilt | None]]

    def __init__(self, model: FoveatedVLM, shape: tuple[int, int, int], config: ReconstructConfig):
        super().__init__()
        self.model, self.config = model, config
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(model.config.init_seed)
            self.film = FilmHead(model.language.width, shape)

    def compile_parts(self) -> None:
        """Compile what a training step calls again and again."""
        self.model.compile_parts()

    def forward(
        self, inputs: Inputs, mode: Mode, latents: torch.Tensor, *, coarse: Coarse = False, entropy: bool = False
    ) -> tuple[Output, Rebuilt | None]:
        """Answer the questions and reconstruct the frames.

        The head is given what the queries of a further pass would be predicted from: where that was read already, it is
        not read again.

        Args:
            inputs: clips and questions.
            mode: how frames are read.
            latents: [C, T, channels, h, w] of the frames, and of padding behind them; [C, 1, channels, h, w] of still
                images.
            coarse: also make the coarse pass; ``"measured"`` makes it without gradients.
            entropy: also return the entropy of the attention.

        Returns:
            The answers; and the errors, None where there are no frames.
        """
        step = Pass(self.model, inputs, self.model.encode(inputs.clips), "learnt", entropy=entropy)
        output = step.run(mode, coarse, ahead=True)
        if not step.T:
            if torch.is_grad_enabled():  # as in FoveatedVLM.untouched
                output.logits = output.logits + 0.0 * sum(p.sum() for p in self.film.parameters())
            return output, None
        latents = latents[:, : step.T].to(self.film.first_latent.dtype).expand(-1, step.T, -1, -1, -1)
        features = self.film.features(self.film.before(latents))[:, None]
        fine = self.error("coarse" if mode == "coarse" else "fine", step, output, features, latents)
        static = None
        if output.coarse is not None:
            with nullcontext() if self.config.coarse_weight > 0 else torch.no_grad():
                static = self.error("coarse", step, output.coarse, features, latents)
        asked = inputs.questions if fine.shape[1] == step.S else inputs.questions.any(1, keepdim=True)
        return output, Rebuilt(fine, static, asked[:, :, None] & inputs.frames[:, None])

    def error(
        self, kind: Kind, step: Pass, output: Output, features: torch.Tensor, latents: torch.Tensor
    ) -> torch.Tensor:
        """Return the squared errors [C, s, T] of a pass.

        Args:
            kind: of the pass.
            step: the passes over the batch.
            output: of the pass.
            features: [C, 1, T, 256, h, w], of the latents before each frame.
            latents: [C, T, channels, h, w], the true ones.
        """
        ahead = output.ahead
        if ahead is None:
            ahead = step.ahead(kind, output.queries[:, :1])
        predicted = self.film.predict(ahead, features)
        return (predicted - latents[:, None]).square().mean((-3, -2, -1))


def model_in(module: FoveatedVLM | Reconstructor) -> FoveatedVLM:
    """Return the model that answers, without what it needs for its training alone."""
    return module.model if isinstance(module, Reconstructor) else module


def latent_shape(config: ReconstructConfig) -> tuple[int, int, int]:
    """Return the channels, height and width of a latent."""
    return (3 if config.latents == "pixels" else config.channels), config.side, config.side


def latents_of(batch: Batch, config: ReconstructConfig) -> torch.Tensor:
    """Return the latents of a batch's frames, [C, T, channels, h, w]; [C, 1, ...] of still images.

    Raises:
        UserError: the data brings none, or of another shape.
    """
    assert batch.clips is not None
    if not batch.clips.shape[1]:  # texts without a picture
        return batch.clips.new_zeros((len(batch.clips), 0, *latent_shape(config)), dtype=torch.float32)
    if config.latents == "data":
        found = batch.extra.get("latents")
        wanted = (config.channels, config.side, config.side)
        if found is None:
            raise UserError("the data brings no latents: use --reconstruct.latents pixels")
        if found.shape[2:] != wanted:
            raise UserError(
                f"the data brings latents of {' x '.join(map(str, found.shape[2:]))}: give --reconstruct.channels "
                f"{found.shape[2]} and --reconstruct.side {found.shape[-1]}"
            )
        return found
    if config.latents == "diffusers":
        assert batch.latents is not None
        latents: torch.Tensor = batch.latents.float().unflatten(-1, latent_shape(config))
        return latents
    return pixel_latents(batch.clips, config.side)
