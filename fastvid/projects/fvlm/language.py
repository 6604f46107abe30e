"""The language model: rows of embeddings in, hidden states out, with a cache of keys and values."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fastvid.command import UserError
from fastvid.projects.fvlm.compiled import Compiled


class LanguageModel(nn.Module):
    """A Hugging Face causal language model that reads embeddings.

    Every row has the same columns, and a mask says which of them are real. A token sees the real columns up to its own,
    and positions count real columns only, so that padding changes nothing, wherever it stands.

    Args:
        model: such as ``LlamaForCausalLM``; attention by PyTorch's ``scaled_dot_product_attention``.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self.width: int = model.get_input_embeddings().embedding_dim
        known = inspect.signature(model.get_decoder().forward).parameters
        self.cache_name = "cache" if "cache" in known else "past_key_values"  # as transformers named it before
        self._compiled = False

    @property
    def embeddings(self) -> torch.Tensor:
        """Return the embeddings of all tokens, [V, W]."""
        found: torch.Tensor = self.model.get_input_embeddings().weight
        return found

    @property
    def ends(self) -> set[int]:
        """Return the tokens that end an answer, as the model's configuration names them; empty if it names none."""
        named: set[int] = set()
        for config in (self.model.config, self.model.generation_config):
            ids = getattr(config, "eos_token_id", None)
            named |= set(ids) if isinstance(ids, list) else set() if ids is None else {ids}
        return named

    @torch.no_grad()
    def check(self) -> None:
        """Raise ValueError unless reading in parts, behind padding, says what the model says itself.

        It does not where a model changes its logits behind the output layer, or attends otherwise than a mask can say.
        """
        ids = torch.arange(4, device=self.embeddings.device)[None] % len(self.embeddings)
        said = self.model(input_ids=ids).logits
        reading, embeds = self.start(), self.embed(ids)
        padded = torch.cat([embeds[:, :1], embeds], 1)
        real = torch.ones(padded.shape[:2], dtype=torch.bool, device=ids.device)
        real[:, 0] = False
        parts = [reading.read(padded[:, :3], real[:, :3])[:, 1:], reading.read(padded[:, 3:], real[:, 3:])]
        if not torch.allclose(self.logits(torch.cat(parts, 1)), said, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"a {self.model.config.model_type} model computes its answer in a way that is not supported; use one "
                "of the Llama kind, such as HuggingFaceTB/SmolLM2-135M-Instruct"
            )

    @property
    def compiled_now(self) -> bool:
        """Return whether a call would find the layers compiled: without gradients they are not."""
        return self._compiled and torch.is_grad_enabled()

    def compile_parts(self) -> None:
        """Compile the layers for training, where nothing that was read before goes on.

        Raises:
            UserError: the model names its layers otherwise than those of the Llama kind.
        """
        layers = getattr(self.model.get_decoder(), "layers", None)
        if layers is None:
            kind = self.model.config.model_type
            raise UserError(f"the layers of a {kind} model cannot be compiled: give --run.compile False")
        for layer in layers:
            layer.forward = Compiled(layer.forward, self.cache_name)
        self._compiled = True

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings [..., W] of token ids."""
        found: torch.Tensor = self.model.get_input_embeddings()(ids)
        return found

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits [..., V] of the next token after hidden states [..., W]."""
        found: torch.Tensor = self.model.get_output_embeddings()(hidden)
        return found

    def together(self, *sequences: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
        """Read sequences of the same R rows in one call, in which none sees another. Return the hidden states of each.

        Args:
            sequences: embeddings [R, n, W] of each, and bool [R, n], which of them are real.
        """
        embeds, real = (torch.cat(parts, 1) for parts in zip(*sequences, strict=True))
        lengths = [mask.shape[1] for _, mask in sequences]
        which = torch.cat([torch.full((n,), i, device=real.device) for i, n in enumerate(lengths)])
        column = torch.arange(len(which), device=real.device)
        own = (column <= column[:, None]) & (which == which[:, None])
        mask = own & real[:, None, None, :] | (column == column[:, None])  # see Reading.read
        positions = torch.cat([mask.long().cumsum(1) for _, mask in sequences], 1).sub_(1).clamp_(min=0)
        out = self.model.get_decoder()(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
        )
        return list(out.last_hidden_state.split(lengths, 1))

    def start(self) -> "Reading":
        """Return a reading that has read nothing."""
        return Reading(self)


class Reading:
    """Rows of tokens that a language model has read so far.

    Args:
        language: the model that reads.
    """

    def __init__(self, language: LanguageModel):
        from fastvid.projects.fvlm.cache import new_cache  # and transformers with it

        self.language = language
        self.cache = new_cache()
        self.real: torch.Tensor | None = None

    def read(self, embeds: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Read further columns and return their hidden states after the final norm.

        Args:
            embeds: [R, n, W], the next columns of R rows.
            real: bool [R, n]; the others are padding, and their hidden states mean nothing.
        """
        if not embeds.shape[1]:
            return embeds
        past = 0 if self.real is None else self.real.shape[1]
        total = real if self.real is None else torch.cat([self.real, real], 1)
        self.real = total
        n = real.shape[1]
        column = torch.arange(total.shape[1], device=real.device)
        row = column[past:, None]
        # A column of padding sees itself: an empty set of keys would give NaN.
        mask = (column <= row) & total[:, None, None, :] | (column == row)
        positions = total.long().cumsum(1).sub_(1).clamp_(min=0)[:, -n:]
        out = self.language.model.get_decoder()(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=True,
            **{self.language.cache_name: self.cache},
        )  # fmt: skip
        hidden: torch.Tensor = out.last_hidden_state
        return hidden

    def read_last(self, embeds: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Read further columns behind which nothing will be read, as :meth:`read` does, and keep nothing of them."""
        if self.real is None and embeds.shape[1]:
            return self.language.together((embeds, real))[0]
        return self.read(embeds, real)

    def fork(self) -> "Reading":
        """Return a reading that has read the same, and goes on by itself."""
        from fastvid.projects.fvlm.cache import fork

        other = Reading(self.language)
        other.real, other.cache = self.real, fork(self.cache)
        return other

    @classmethod
    def joined(cls, parts: Sequence[tuple["Reading", torch.Tensor]]) -> "Reading":
        """Return a reading whose rows have read what rows of other readings have read. Where one has read fewer columns
        than another, padding stands behind them.

        Args:
            parts: readings by one model, and of each int64 [n], the numbers of its rows, each as often as it is wanted.
        """
        longest = max((reading for reading, _ in parts), key=lambda reading: reading.columns)
        other = cls(longest.language)
        if longest.real is None:
            return other
        other.real = torch.cat([_rows(reading.real, which, longest.real, 1) for reading, which in parts])
        read = [(reading.cache.layers, which) for reading, which in parts]
        for index, layer in enumerate(longest.cache.layers):
            keys = [_rows(layers[index].keys if layers else None, which, layer.keys, 2) for layers, which in read]
            values = [_rows(layers[index].values if layers else None, which, layer.values, 2) for layers, which in read]
            other.cache.update(torch.cat(keys), torch.cat(values), index)
        return other

    @property
    def columns(self) -> int:
        """Return the number of columns that were read."""
        return 0 if self.real is None else self.real.shape[1]


def _rows(x: torch.Tensor | None, which: torch.Tensor, like: torch.Tensor, dim: int) -> torch.Tensor:
    """Return rows ``which`` of x, with zeros behind along ``dim`` up to the length of ``like``; only zeros for None."""
    found = like.new_zeros(len(which), *like.shape[1:])
    if x is not None:
        found.narrow(dim, 0, x.shape[dim]).copy_(x[which])
    return found
