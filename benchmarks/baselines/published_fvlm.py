"""The steps of a foveated vision-language model as published, re-stated literally in plain PyTorch.

Every sample is a clip and one text: a clip with several questions is several samples, and a still image is a clip of
copies of it. The encoder finishes its last layer, and keys and values are projected a second time from every layer's
input. Queries look frame by frame and layer by layer, with a softmax that is written out. Each loss has language model
passes of its own, and the output layer reads every position of them.

It takes the weights of a model of fastvid's, so that both compute the same loss and gradients to rounding. Departures
from what was published, all for that: visual tokens have a constant scale, padding is left out of the sequences, and
what stands in front of the frames is given.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.baselines.sequences import Part, joined, last, picked
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""A key and a value [R, T, heads, N, d] for each layer."""


@dataclass(frozen=True)
class Samples:
    """R samples, each a clip and one text.

    Attributes:
        clips: uint8 [R, T, H, W, 3].
        frames: bool [R, T], real frames.
        before: int64 [R, P], token ids in front of the frames, and bool [R, P] for the real ones.
        after: int64 [R, A], token ids behind them, and bool [R, A].
        labels: int64 [R, A], the ids of ``after`` that are learnt, -100 elsewhere.
    """

    clips: torch.Tensor
    frames: torch.Tensor
    before: tuple[torch.Tensor, torch.Tensor]
    after: tuple[torch.Tensor, torch.Tensor]
    labels: torch.Tensor

    @classmethod
    def of(cls, inputs: Inputs) -> "Samples":
        """Return each real question of a batch as a sample. A still image becomes as many frames as it is looked at."""
        real, S, looks = inputs.questions.flatten(), inputs.questions.shape[1], inputs.frames.shape[1]
        clips = inputs.clips
        if clips.shape[1] == 1:
            clips = clips.repeat(1, looks, 1, 1, 1)

        def rows(x: torch.Tensor) -> torch.Tensor:
            return x.flatten(0, 1)[real]

        return cls(
            clips.repeat_interleave(S, 0)[real], inputs.frames.repeat_interleave(S, 0)[real],
            (rows(inputs.before), rows(inputs.before_mask)), (rows(inputs.after), rows(inputs.after_mask)),
            rows(inputs.labels),
        )  # fmt: skip


@dataclass
class Joint:
    """The losses of a joint step, means over tokens and over the latents of real frames.

    Attributes:
        loss: the one that is minimised: caption and reconstruction of the last iteration.
        captions: cross-entropy of the caption in each iteration.
        reconstructions: squared error of the latents in each.
        coarse_caption: cross-entropy after the coarse glance, in a step that measures it.
        coarse_reconstruction: squared error there.
    """

    loss: torch.Tensor
    captions: list[torch.Tensor] = field(default_factory=list)
    reconstructions: list[torch.Tensor] = field(default_factory=list)
    coarse_caption: torch.Tensor | None = None
    coarse_reconstruction: torch.Tensor | None = None


class Published:
    """The published computations with the weights of a model.

    Args:
        model: its encoder is DINOv2.
        head: maps hidden states [R, T, W] in front of each frame and the latents [R, T, c, h, w] of the frame before to
            those of the frame. For :meth:`joint` alone.
        first_latent: [c, h, w], in the place of the latent before the first frame.
    """

    def __init__(self, model: FoveatedVLM, head: nn.Module | None = None, first_latent: torch.Tensor | None = None):
        self.model, self.connector, self.language = model, model.connector, model.language
        self.head, self.first_latent = head, first_latent

    # Looks

    def encode(self, clips: torch.Tensor) -> Layers:
        """Run the whole encoder on clips uint8 [R, T, H, W, 3], then project keys and values of each layer."""
        encoder: Any = self.model.encoder
        pixels = clips.flatten(0, 1).permute(0, 3, 1, 2).to(next(encoder.parameters()).dtype) / 255
        mean, std = (pixels.new_tensor(x)[:, None, None] for x in (encoder.mean, encoder.std))
        out = encoder.model((pixels - mean) / std, output_hidden_states=True)
        if encoder.depth == "shallow":
            tokens = out.last_hidden_state[:, None].unflatten(0, clips.shape[:2])
            return [(tokens, tokens)]
        kept = []
        for block, hidden in zip(encoder.blocks(), out.hidden_states[:-1], strict=True):
            normed = block.norm1(hidden)
            key, value = (x.unflatten(-1, (encoder.heads, -1)) for x in (block.key(normed), block.value(normed)))
            kept.append(tuple(x.transpose(1, 2).unflatten(0, clips.shape[:2]) for x in (key, value)))
        return kept

    def look(self, query: torch.Tensor, layers: Layers, frame: int) -> torch.Tensor:
        """Look at one frame of each clip with queries [R, D]. Return visual tokens [R, W]."""
        encoder: Any = self.model.encoder
        tokens = self.connector.enter(query)
        if encoder.depth == "shallow":
            tokens = attend(tokens, *layers[0], frame)
        else:
            for block, (key, value) in zip(encoder.blocks(), layers, strict=True):
                seen = attend(block.query(block.norm1(tokens)), key, value, frame)
                tokens = tokens + block.scale1(block.out(seen))
                tokens = tokens + block.scale2(block.mlp(block.norm2(tokens)))
            tokens = encoder.norm(tokens)
        return self.connector.tokens(tokens)

    def glance(self, queries: torch.Tensor, layers: Layers) -> torch.Tensor:
        """Look at every frame, one after the other, with queries [R, T, D]. Return visual tokens [R, T, W]."""
        return torch.stack([self.look(queries[:, t], layers, t) for t in range(queries.shape[1])], 1)

    def static(self, samples: Samples) -> torch.Tensor:
        """Return the static query for each frame, [R, T, D]."""
        return self.connector.static_query.expand(*samples.frames.shape, -1)

    def shifted(self, hidden: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Return the queries [R, T, D] that hidden states [R, T, W] of the frames predict for the frames behind.

        Args:
            hidden: of the frames.
            first: [R, D], the query of the first frame.
        """
        return torch.cat([first[:, None], self.connector.predict(hidden)[:, :-1]], 1)

    # Language model passes

    def embedded(self, ids: tuple[torch.Tensor, torch.Tensor]) -> Part:
        """Return token ids as a part of a sequence."""
        return self.language.embed(ids[0]), ids[1]

    def hidden(self, *parts: Part) -> list[torch.Tensor]:
        """Read parts in order. Return the hidden states [R, n, W] of each."""
        packed, places = joined(parts)
        found = self.language.model.get_decoder()(inputs_embeds=packed, use_cache=False).last_hidden_state
        return [picked(found, place) for place in places]

    def caption(self, front: Part, tokens: Part, samples: Samples) -> torch.Tensor:
        """Return the cross-entropy of the learnt tokens behind the frames, in the mean over them."""
        packed, places = joined((front, tokens, self.embedded(samples.after)))
        logits = self.language.model(inputs_embeds=packed, use_cache=False).logits
        said = picked(logits, (places[2] - 1).clamp(min=0))  # each token is predicted at the one before it
        return F.cross_entropy(said.flatten(0, 1), samples.labels.flatten(), ignore_index=-100)

    def reconstruction(self, front: Part, tokens: Part, latents: torch.Tensor) -> torch.Tensor:
        """Return the squared error of latents [R, T, c, h, w] that are predicted in front of each frame."""
        assert self.head is not None
        assert self.first_latent is not None
        before, frames = self.hidden(front, tokens)
        hidden = torch.cat([last(before, front[1])[:, None], frames[:, :-1]], 1)
        start = self.first_latent.expand(len(latents), 1, *latents.shape[2:])
        error = (self.head(hidden, torch.cat([start, latents[:, :-1]], 1)) - latents) ** 2
        return error[tokens[1]].mean()

    # Steps

    def answers(self, samples: Samples, mode: Mode, iterations: int = 1) -> torch.Tensor:
        """Return the mean cross-entropy of the answers, for a step of one text loss (the published stages 1 to 2)."""
        front, frames = self.embedded(samples.before), samples.frames
        if not frames.shape[1]:
            return self.caption(front, (front[0][:, :0], frames), samples)
        if mode == "stream":
            return self.streamed(samples)
        layers = self.encode(samples.clips)
        tokens = self.glance(self.static(samples), layers)
        if mode == "parallel":
            for _ in range(iterations):
                before, hidden = self.hidden(front, (tokens, frames))
                tokens = self.glance(self.shifted(hidden, self.first_query(before, front[1])), layers)
        return self.caption(front, (tokens, frames), samples)

    def streamed(self, samples: Samples) -> torch.Tensor:
        """Return the mean cross-entropy where every query is predicted from the frames before. The language model keeps
        keys and values of what it has read; samples come one by one."""
        from transformers import DynamicCache

        losses = []
        for row, count in enumerate(samples.frames.sum(1).tolist()):
            layers = self.encode(samples.clips[row : row + 1, :count])
            cache = DynamicCache()

            def read(embeds: torch.Tensor, cache: Any = cache) -> Any:
                kept = {self.language.cache_name: cache}
                return self.language.model(inputs_embeds=embeds, use_cache=True, output_hidden_states=True, **kept)

            (ids, real), (after, after_real) = samples.before, samples.after
            before = self.language.embed(ids[row, real[row]][None])
            out, query = None, self.connector.first_query[None]
            if before.shape[1]:
                out = read(before)
                if self.model.config.first_query == "text":
                    query = self.connector.predict(out.hidden_states[-1][:, -1])
            for t in range(count):
                out = read(self.look(query, layers, t)[:, None])
                query = self.connector.predict(out.hidden_states[-1][:, -1])
            text = read(self.language.embed(after[row, after_real[row]][None]))
            said = text.logits[0, :-1] if out is None else torch.cat([out.logits[0, -1:], text.logits[0, :-1]])
            labels = samples.labels[row, after_real[row]]
            labels = labels[len(labels) - len(said) :]
            losses.append(F.cross_entropy(said, labels, reduction="none")[labels != -100])
        return torch.cat(losses).mean()

    def joint(
        self,
        samples: Samples,
        latents: torch.Tensor,
        fronts: Mapping[str, Part] | None = None,
        *,
        iterations: int = 2,
        weight: float = 0.5,
        measure: bool = False,
    ) -> Joint:
        """Make the joint step: captions and the reconstruction of latents, by the same glances.

        Eight passes of the language model where it measures, else six: coarse caption and reconstruction, without
        a gradient; the first queries; for each of two iterations caption and reconstruction, and between them the next
        queries.

        Args:
            samples: clips and captions.
            latents: [R, T, c, h, w] of each frame.
            fronts: what stands in front of the frames: ``coarse caption`` and ``caption`` in passes with a text behind
                them, ``coarse`` and ``fine`` in those without; default: the text in front.
            iterations: glances that are aimed.
            weight: of the reconstruction.
            measure: also measure the coarse pass, as every tenth step does.
        """
        plain = self.embedded(samples.before)
        at: Mapping[str, Part] = dict.fromkeys(FRONTS, plain) if fronts is None else fronts
        frames = samples.frames
        layers = self.encode(samples.clips)
        coarse = self.glance(self.static(samples), layers)
        found = Joint(coarse.new_zeros(()))
        if measure:
            with torch.no_grad():
                found.coarse_caption = self.caption(at["coarse caption"], (coarse, frames), samples)
                found.coarse_reconstruction = self.reconstruction(at["coarse"], (coarse, frames), latents)
        before, hidden = self.hidden(at["coarse"], (coarse, frames))
        queries = self.shifted(hidden, self.first_query(before, at["coarse"][1]))
        for iteration in range(iterations):
            tokens = self.glance(queries, layers)
            found.captions.append(self.caption(at["caption"], (tokens, frames), samples))
            found.reconstructions.append(self.reconstruction(at["fine"], (tokens, frames), latents))
            if iteration < iterations - 1:  # its losses are recorded only: what they kept is given back
                found.captions[-1], found.reconstructions[-1] = (
                    x[-1].detach() for x in (found.captions, found.reconstructions)
                )
                before, hidden = self.hidden(at["fine"], (tokens, frames))
                queries = self.shifted(hidden, self.first_query(before, at["fine"][1]))
        found.loss = found.captions[-1] + weight * found.reconstructions[-1]
        return found

    @torch.no_grad()
    def choices(self, options: Iterable[Samples], modes: Iterable[Mode]) -> dict[Mode, list[float]]:
        """Return the cross-entropy of every option of a multiple-choice question, by mode.

        Args:
            options: the question with each option as its answer; the clip is encoded again for each and in every mode.
            modes: how frames are read.
        """
        options = list(options)
        return {mode: [float(self.answers(option, mode)) for option in options] for mode in modes}

    def first_query(self, hidden: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Return the query [R, D] of the first frame.

        Args:
            hidden: hidden states [R, P, W] of what stands in front of the frames.
            real: bool [R, P], which are real.
        """
        if self.model.config.first_query == "learnt" or not hidden.shape[1]:
            return self.connector.first_query.expand(len(hidden), -1)
        return self.connector.predict(last(hidden, real))


FRONTS = ("coarse caption", "coarse", "caption", "fine")


def marked(model: FoveatedVLM, samples: Samples) -> dict[str, Part]:
    """Return what stands in front of the frames in a joint step: a token for the pass, and in front of that the text or
    a token for none."""
    connector, rows = model.connector, len(samples.frames)
    text = (model.language.embed(samples.before[0]), samples.before[1])

    def tokens(*embeds: torch.Tensor) -> Part:
        whole = torch.cat([x.expand(rows, 1, -1) for x in embeds], 1)
        return whole, torch.ones(whole.shape[:2], dtype=torch.bool, device=whole.device)

    found: dict[str, Part] = {}
    for mark, with_text, without in (
        (connector.coarse_mark, "coarse caption", "coarse"), (connector.fine_mark, "caption", "fine")
    ):  # fmt: skip
        embeds, real = tokens(mark)
        found[with_text] = torch.cat([text[0], embeds], 1), torch.cat([text[1], real], 1)
        found[without] = tokens(connector.no_text, mark)
    return found


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, frame: int) -> torch.Tensor:
    """Attend with queries [R, heads * d] to one frame of keys and values [R, T, heads, N, d], weights written out."""
    key, value = key[:, frame], value[:, frame]
    heads = query.unflatten(-1, (key.shape[1], 1, -1))
    weights = (heads @ key.mT * heads.shape[-1] ** -0.5).softmax(-1)
    return (weights.to(value.dtype) @ value).flatten(1)
